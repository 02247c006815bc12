"""Select domain neurons: from activation counts of a model to the neurons of every domain.

In: {model}/record/count_shards/{shard}.parquet. Out: {model}/record/sample_counts.parquet and
counts.safetensors; {model}/neurons/dape.act.{variant}.parquet, variant such as released-1.
All below domains/, which stands for the datasets of the domains together.
"""


rule merge_counts:
    input:
        questions="<domains>/questions.parquet",
        shards=shards_of("<domains>/{model}/record/count_shards/{shard}.parquet"),
    output:
        samples="<domains>/{model}/record/sample_counts.parquet",
        counts="<domains>/{model}/record/counts.safetensors",
    log:
        "<logs>/domains/{model}/merge_counts.log",
    benchmark:
        "<benchmarks>/domains/{model}/merge_counts.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_counts.py"),
        record=lookup(within=config, dpath="mmneuron/record"),
    message:
        "Adding up the activation counts of {wildcards.model}"
    script:
        "../scripts/merge_counts.py"


rule select_domains:
    input:
        counts="<domains>/{model}/record/counts.safetensors",
    output:
        neurons="<domains>/{model}/neurons/dape.act.{variant}.parquet",
    log:
        "<logs>/domains/{model}/select_domains.{variant}.log",
    benchmark:
        "<benchmarks>/domains/{model}/select_domains.{variant}.tsv"
    wildcard_constraints:
        variant=r"(released|paper)-\d+(_\d+)?",
    conda:
        "../envs/data.yaml"
    params:
        code=code("select_domains.py"),
        percentile=lookup(within=config, dpath="mmneuron/select/percentile"),
        inert=lookup(within=config, dpath="mmneuron/select/inert"),
    message:
        "Selecting the domain neurons of {wildcards.model}: {wildcards.variant}"
    script:
        "../scripts/select_domains.py"
