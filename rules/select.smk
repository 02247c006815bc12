"""Select: neurons of every method, in seconds and without a model.

In: record/two_stage.safetensors. Out: {dataset}/{model}/neurons/{method}.{site}.{variant}.parquet
and thresholds.{site}.{variant}.parquet.
"""


rule select_two_stage:
    input:
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        record="<results>/{dataset}/{model}/record/two_stage.safetensors",
        table=thresholds_table,
    output:
        neurons="<results>/{dataset}/{model}/neurons/two_stage.{site}.{variant}.parquet",
        thresholds="<results>/{dataset}/{model}/neurons/thresholds.{site}.{variant}.parquet",
    log:
        "<logs>/{dataset}/{model}/select_two_stage.{site}.{variant}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/select_two_stage.{site}.{variant}.tsv"
    wildcard_constraints:
        variant="auto|manual",
    conda:
        "../envs/data.yaml"
    params:
        code=code("select_two_stage.py"),
        share=lookup(within=config, dpath="two_stage/thresholds/share"),
    message:
        "Selecting neurons by two-stage filtering: {wildcards.variant}, {wildcards.site}"
    script:
        "../scripts/select_two_stage.py"


rule select_baselines:
    input:
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        record="<results>/{dataset}/{model}/record/two_stage.safetensors",
        neurons=f"<results>/{{dataset}}/{{model}}/neurons/two_stage.{{site}}.{THRESHOLDS}.parquet",
    output:
        difference="<results>/{dataset}/{model}/neurons/two_stage.{site}.difference.parquet",
        gradact="<results>/{dataset}/{model}/neurons/two_stage.{site}.gradact.parquet",
        attribution_all="<results>/{dataset}/{model}/neurons/attribution.{site}.all-layers.parquet",
        attribution_no_last="<results>/{dataset}/{model}/neurons/attribution.{site}.no-last.parquet",
        contribution_all="<results>/{dataset}/{model}/neurons/contribution.{site}.all-layers.parquet",
        contribution_no_last="<results>/{dataset}/{model}/neurons/contribution.{site}.no-last.parquet",
        random="<results>/{dataset}/{model}/neurons/random.{site}.matched.parquet",
    log:
        "<logs>/{dataset}/{model}/select_baselines.{site}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/select_baselines.{site}.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("select_baselines.py"),
        seeds=lookup(within=config, dpath="two_stage/control/seeds"),
        seed=lookup(within=config, dpath="two_stage/seed"),
    message:
        "Selecting baselines and random controls: {wildcards.site}"
    script:
        "../scripts/select_baselines.py"


rule mark_interpretable:
    input:
        neurons="<results>/{dataset}/{model}/record/attribution/pairs.parquet",
        units="<results>/{dataset}/{model}/record/attribution/ranking.parquet",
        tokens="<results>/models/{model}/neuron_tokens.parquet",
    output:
        neurons="<results>/{dataset}/{model}/schwettmann/neurons.parquet",
        units="<results>/{dataset}/{model}/schwettmann/units.parquet",
    log:
        "<logs>/{dataset}/{model}/mark_interpretable.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/mark_interpretable.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("mark_interpretable.py"),
        interpretable=lookup(within=config, dpath="schwettmann/interpretable"),
    message:
        "Looking the tokens of units up in a dictionary"
    script:
        "../scripts/mark_interpretable.py"
