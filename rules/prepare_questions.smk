"""Prepare: questions of a domain, for identifying neurons and for evaluating them.

In: the published files. Out: {dataset}/mmneuron/questions.parquet, exclusions.parquet and
pictures/, with the pictures that the dataset has in no files of their own.
"""


# They only put small tables together, and would wait for longer than they work.
localrules:
    collect_questions,


rule choose_questions:
    input:
        annotations=question_annotations,
    output:
        questions="<results>/{dataset}/mmneuron/questions.parquet",
        exclusions="<results>/{dataset}/mmneuron/exclusions.parquet",
        pictures=directory("<results>/{dataset}/mmneuron/pictures"),
    log:
        "<logs>/{dataset}/choose_questions.log",
    benchmark:
        "<benchmarks>/{dataset}/choose_questions.tsv"
    localrule: from_the_web(*DOMAIN_OF)
    conda:
        "../envs/data.yaml"
    params:
        code=code("choose_questions.py"),
        dataset=dataset_row,
        domain=lambda wildcards: DOMAIN_OF[wildcards.dataset],
        questions=lookup(within=config, dpath="mmneuron/questions"),
        seed=lookup(within=config, dpath="mmneuron/seed"),
    message:
        "Choosing questions of {wildcards.dataset}"
    script:
        "../scripts/choose_questions.py"


rule collect_questions:
    input:
        questions=domain_questions("questions"),
        exclusions=domain_questions("exclusions"),
    output:
        questions="<domains>/questions.parquet",
        exclusions="<domains>/exclusions.parquet",
    log:
        "<logs>/domains/collect_questions.log",
    benchmark:
        "<benchmarks>/domains/collect_questions.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("collect_questions.py"),
    message:
        "Putting the questions of all domains together"
    script:
        "../scripts/collect_questions.py"
