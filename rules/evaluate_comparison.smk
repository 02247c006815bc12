"""Evaluate, for the comparison: what every method's neurons do, in one model and over all of them.

In: comparison/test_shards/, valid.parquet, neurons.parquet. Out: {dataset}/{model}/comparison/captions.parquet
and exclusions.parquet; {dataset}/{model}/metrics/comparison/*.csv; {dataset}/comparison/summary.csv.
"""


# It only puts small tables together, and would wait for longer than it works.
localrules:
    summarise_comparison,


rule evaluate_comparison:
    input:
        folders=shards_of("<results>/{dataset}/{model}/comparison/test_shards/{shard}"),
        valid="<results>/{dataset}/{model}/comparison/valid.parquet",
        neurons="<results>/{dataset}/{model}/comparison/neurons.parquet",
        exclusions="<results>/{dataset}/{model}/comparison/exclusions.selection.parquet",
        categories=dataset_categories,
        annotations=dataset_annotations,
    output:
        captions="<results>/{dataset}/{model}/comparison/captions.parquet",
        exclusions="<results>/{dataset}/{model}/comparison/exclusions.parquet",
        cells="<results>/{dataset}/{model}/metrics/comparison/cells.csv",
        fields="<results>/{dataset}/{model}/metrics/comparison/fields.csv",
        agreement="<results>/{dataset}/{model}/metrics/comparison/agreement.csv",
        layers="<results>/{dataset}/{model}/metrics/comparison/layers.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_comparison.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_comparison.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_comparison.py"),
        methods=list(COMPARED),
        rbo=lookup(within=config, dpath="comparison/rbo"),
    message:
        "Measuring what every method's neurons of {wildcards.model} do"
    script:
        "../scripts/evaluate_comparison.py"


rule summarise_comparison:
    input:
        cells=of_compared("metrics/comparison/cells.csv"),
    output:
        summary="<results>/{dataset}/comparison/summary.csv",
    log:
        "<logs>/{dataset}/summarise_comparison.log",
    benchmark:
        "<benchmarks>/{dataset}/summarise_comparison.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("summarise_comparison.py"),
        models=COMPARED_LABELS,
        seed=lookup(within=config, dpath="comparison/seed"),
    message:
        "Averaging the comparison over concepts and models"
    script:
        "../scripts/summarise_comparison.py"
