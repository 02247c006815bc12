"""Evaluate Schwettmann et al. 2023: descriptions, receptive fields, selectivity, ablation.

In: {dataset}/{model}/schwettmann/*.parquet, maps.safetensors. Out: {dataset}/{model}/schwettmann/metrics/.
"""


# It only puts small tables together, and would wait for longer than it works.
localrules:
    collect_schwettmann_exclusions,


rule evaluate_descriptions:
    input:
        captions="<results>/{dataset}/{model}/schwettmann/captions.parquet",
        units="<results>/{dataset}/{model}/schwettmann/units.parquet",
        prompt_tokens="<results>/{dataset}/{model}/schwettmann/prompt_tokens.parquet",
        tokens="<results>/models/{model}/neuron_tokens.parquet",
        encoder=ENCODER_FILES,
        clip=CLIP_FILES,
    output:
        scores="<results>/{dataset}/{model}/schwettmann/metrics/scores.csv",
        means="<results>/{dataset}/{model}/schwettmann/metrics/means.csv",
        ks="<results>/{dataset}/{model}/schwettmann/metrics/ks.csv",
        prompts="<results>/{dataset}/{model}/schwettmann/metrics/prompts.parquet",
        exclusions="<results>/{dataset}/{model}/schwettmann/metrics/exclusions.descriptions.parquet",
    log:
        "<logs>/{dataset}/{model}/evaluate_descriptions.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_descriptions.tsv"
    conda:
        "../envs/text.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    params:
        code=code("evaluate_descriptions.py"),
        root=dataset_root,
        encoder=ENCODER,
        clip=CLIP,
        units=lookup(within=config, dpath="schwettmann/pairs"),
        tokens=lookup(within=config, dpath="schwettmann/interpretable/of"),
        threads=lookup(within=config, dpath="compute/threads"),
    message:
        "Comparing the neurons of {wildcards.model} with pictures and human captions"
    script:
        "../scripts/evaluate_descriptions.py"


rule evaluate_receptive_fields:
    input:
        annotations=dataset_annotations,
        pictures="<results>/{dataset}/schwettmann/pictures.parquet",
        units="<results>/{dataset}/{model}/schwettmann/units.parquet",
        maps="<results>/{dataset}/{model}/schwettmann/maps.safetensors",
        rows="<results>/{dataset}/{model}/schwettmann/maps.parquet",
    output:
        localisation="<results>/{dataset}/{model}/schwettmann/metrics/localisation.csv",
        iou="<results>/{dataset}/{model}/schwettmann/metrics/iou.csv",
        exclusions="<results>/{dataset}/{model}/schwettmann/metrics/exclusions.localisation.parquet",
    log:
        "<logs>/{dataset}/{model}/evaluate_receptive_fields.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_receptive_fields.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_receptive_fields.py"),
        percentile=lookup(within=config, dpath="schwettmann/percentile"),
    message:
        "Comparing receptive fields of {wildcards.model} with objects"
    script:
        "../scripts/evaluate_receptive_fields.py"


rule evaluate_selectivity:
    input:
        pictures="<results>/{dataset}/schwettmann/pictures.parquet",
        units="<results>/{dataset}/{model}/schwettmann/units.parquet",
        means="<results>/{dataset}/{model}/record/attribution/means.safetensors",
    output:
        selectivity="<results>/{dataset}/{model}/schwettmann/metrics/selectivity.csv",
        pictures="<results>/{dataset}/{model}/schwettmann/metrics/selectivity_pictures.csv",
        layers="<results>/{dataset}/{model}/schwettmann/metrics/layers.csv",
        exclusions="<results>/{dataset}/{model}/schwettmann/metrics/exclusions.selectivity.parquet",
    log:
        "<logs>/{dataset}/{model}/evaluate_selectivity.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_selectivity.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_selectivity.py"),
        most=lookup(within=config, dpath="schwettmann/pairs"),
        n_units=lookup(within=config, dpath="schwettmann/selectivity/units"),
    message:
        "Measuring which pictures excite the units of a category"
    script:
        "../scripts/evaluate_selectivity.py"


rule evaluate_ablation:
    input:
        ablation="<results>/{dataset}/{model}/schwettmann/ablation.parquet",
        encoder=ENCODER_FILES,
    output:
        ablated="<results>/{dataset}/{model}/schwettmann/metrics/ablation.parquet",
        table="<results>/{dataset}/{model}/schwettmann/metrics/ablation.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_ablation.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_ablation.tsv"
    conda:
        "../envs/text.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    params:
        code=code("evaluate_ablation.py"),
        encoder=ENCODER,
        threads=lookup(within=config, dpath="compute/threads"),
    message:
        "Measuring what ablations leave of the captions of {wildcards.model}"
    script:
        "../scripts/evaluate_ablation.py"


rule collect_schwettmann_exclusions:
    input:
        "<results>/{dataset}/schwettmann/exclusions.parquet",
        "<results>/{dataset}/{model}/record/attribution/exclusions.parquet",
        "<results>/{dataset}/{model}/schwettmann/left_out.parquet",
        expand(
            "<results>/{{dataset}}/{{model}}/schwettmann/metrics/exclusions.{stage}.parquet",
            stage=["descriptions", "localisation", "selectivity"],
        ),
    output:
        "<results>/{dataset}/{model}/schwettmann/metrics/exclusions.parquet",
    log:
        "<logs>/{dataset}/{model}/collect_schwettmann_exclusions.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/collect_schwettmann_exclusions.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_tables.py"),
        sort=["stage", "sample_id", "group", "reason", "detail"],
    message:
        "Listing what was left out of {wildcards.model}"
    script:
        "../scripts/merge_tables.py"
