"""Select, for the comparison: as many neurons of a model by every method.

In: comparison/record_shards/. Out: {dataset}/{model}/comparison/valid.parquet and neurons.parquet;
metrics/comparison/capabilities.csv and costs.csv.
"""


# It only puts small tables together, and would wait for longer than it works.
localrules:
    select_comparison,


rule select_comparison:
    input:
        folders=shards_of("<results>/{dataset}/{model}/comparison/record_shards/{shard}"),
    output:
        valid="<results>/{dataset}/{model}/comparison/valid.parquet",
        neurons="<results>/{dataset}/{model}/comparison/neurons.parquet",
        exclusions=temp("<results>/{dataset}/{model}/comparison/exclusions.selection.parquet"),
        capabilities="<results>/{dataset}/{model}/metrics/comparison/capabilities.csv",
        costs="<results>/{dataset}/{model}/metrics/comparison/costs.csv",
    log:
        "<logs>/{dataset}/{model}/select_comparison.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/select_comparison.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("select_comparison.py"),
        methods=COMPARED,
        measures=METHODS["measures"],
        pictures=lookup(within=config, dpath="comparison/pictures"),
        halves=lookup(within=config, dpath="comparison/halves"),
        control_seeds=lookup(within=config, dpath="comparison/control_seeds"),
        seed=lookup(within=config, dpath="comparison/seed"),
    message:
        "Selecting as many neurons of {wildcards.model} by every method"
    script:
        "../scripts/select_comparison.py"
