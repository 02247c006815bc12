"""Evaluate the domains: accuracy, deviation, silent neurons, the plane of the embeddings.

In: {model}/interventions/answers.parquet and deviation.parquet, {model}/record/counts.safetensors
and embeddings.parquet. Out: {model}/interventions/judged.parquet, where a judge is configured;
{model}/metrics/mmneuron/*.csv. All below domains/.
"""

JUDGE = MMNEURON["lingo_judge"]
# Of a folder that is not there no file is asked for: the job says so, where Snakemake would keep
# the scores of an earlier judge.
JUDGE_FILES = sorted(map(str, Path(JUDGE).glob("*.*"))) if JUDGE else []


rule judge_answers:
    # Only evaluate_answers asks for it, and only where a judge is configured.
    input:
        checkpoint=JUDGE_FILES,
        questions="<domains>/questions.parquet",
        answers="<domains>/{model}/interventions/answers.parquet",
    output:
        judged="<domains>/{model}/interventions/judged.parquet",
    log:
        "<logs>/domains/{model}/judge_answers.log",
    benchmark:
        "<benchmarks>/domains/{model}/judge_answers.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    params:
        code=code("judge_answers.py"),
        checkpoint=lookup(within=config, dpath="mmneuron/lingo_judge"),
        batch_size=lookup(within=config, dpath="compute/batch_size"),
        threads=lookup(within=config, dpath="compute/threads"),
    message:
        "Judging the replies of {wildcards.model}"
    script:
        "../scripts/judge_answers.py"


rule evaluate_answers:
    input:
        questions="<domains>/questions.parquet",
        answers="<domains>/{model}/interventions/answers.parquet",
        judged=("<domains>/{model}/interventions/judged.parquet" if JUDGE else []),
    output:
        accuracy="<domains>/{model}/metrics/mmneuron/accuracy.csv",
    log:
        "<logs>/domains/{model}/evaluate_answers.log",
    benchmark:
        "<benchmarks>/domains/{model}/evaluate_answers.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_answers.py"),
    message:
        "Measuring the accuracy of {wildcards.model}"
    script:
        "../scripts/evaluate_answers.py"


rule evaluate_deviation:
    input:
        deviation="<domains>/{model}/interventions/deviation.parquet",
    output:
        deviation="<domains>/{model}/metrics/mmneuron/deviation.csv",
    log:
        "<logs>/domains/{model}/evaluate_deviation.log",
    benchmark:
        "<benchmarks>/domains/{model}/evaluate_deviation.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_deviation.py"),
    message:
        "Measuring how far hidden states of {wildcards.model} move"
    script:
        "../scripts/evaluate_deviation.py"


rule evaluate_silent:
    input:
        counts="<domains>/{model}/record/counts.safetensors",
    output:
        silent="<domains>/{model}/metrics/mmneuron/silent.csv",
    log:
        "<logs>/domains/{model}/evaluate_silent.log",
    benchmark:
        "<benchmarks>/domains/{model}/evaluate_silent.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_silent.py"),
    message:
        "Counting the silent neurons of {wildcards.model}"
    script:
        "../scripts/evaluate_silent.py"


rule project_embeddings:
    input:
        embeddings="<domains>/{model}/record/embeddings.parquet",
    output:
        pca="<domains>/{model}/metrics/mmneuron/pca.csv",
    log:
        "<logs>/domains/{model}/project_embeddings.log",
    benchmark:
        "<benchmarks>/domains/{model}/project_embeddings.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("project_embeddings.py"),
    message:
        "Projecting the picture embeddings of {wildcards.model}"
    script:
        "../scripts/project_embeddings.py"
