"""Evaluate: tables of numbers, without a model that is studied.

In: captions under noise. Out: {dataset}/{model}/metrics/two_stage/*.csv and hits.*.parquet.
"""


rule evaluate_suppression:
    input:
        noise="<results>/{dataset}/{model}/interventions/noise.{site}.{part}.parquet",
        categories=dataset_categories,
    output:
        hits="<results>/{dataset}/{model}/metrics/two_stage/hits.{site}.{part}.parquet",
        suppression="<results>/{dataset}/{model}/metrics/two_stage/suppression.{site}.{part}.csv",
        loose="<results>/{dataset}/{model}/metrics/two_stage/suppression_loose.{site}.{part}.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_suppression.{site}.{part}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_suppression.{site}.{part}.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_suppression.py"),
    message:
        "Measuring suppression and retention: {wildcards.part}, {wildcards.site}"
    script:
        "../scripts/evaluate_suppression.py"


rule evaluate_similarity:
    input:
        noise="<results>/{dataset}/{model}/interventions/noise.{site}.{part}.parquet",
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        encoder=ENCODER_FILES,
    output:
        similarity="<results>/{dataset}/{model}/metrics/two_stage/similarity.{site}.{part}.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_similarity.{site}.{part}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_similarity.{site}.{part}.tsv"
    conda:
        "../envs/text.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    params:
        code=code("evaluate_similarity.py"),
        encoder=ENCODER,
        threads=lookup(within=config, dpath="compute/threads"),
    message:
        "Measuring similarity of captions: {wildcards.part}, {wildcards.site}"
    script:
        "../scripts/evaluate_similarity.py"


rule collect_exclusions:
    input:
        prepare="<results>/{dataset}/two_stage/exclusions.parquet",
        validity="<results>/{dataset}/{model}/captions/exclusions.parquet",
        thresholds=THRESHOLD_TABLES,
    output:
        "<results>/{dataset}/{model}/metrics/two_stage/exclusions.parquet",
    log:
        "<logs>/{dataset}/{model}/collect_exclusions.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/collect_exclusions.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("collect_exclusions.py"),
    message:
        "Listing what was left out"
    script:
        "../scripts/collect_exclusions.py"
