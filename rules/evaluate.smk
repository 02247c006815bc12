"""Evaluate: tables of numbers, without a model that is studied.

In: captions under noise. Out: {dataset}/{model}/metrics/two_stage/*.csv and hits.*.parquet;
{dataset}/{model}/metrics/pan/*.csv.
"""


# They only put small tables together, and would wait for longer than they work.
localrules:
    collect_exclusions,
    collect_caption_exclusions,
    collect_pan_exclusions,


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


rule evaluate_sensitivity:
    input:
        neurons=pan_neurons("plain"),
        tokens="<results>/models/{model}/neuron_tokens.parquet",
        encoder=ENCODER_FILES,
    output:
        sensitivity="<results>/{dataset}/{model}/metrics/pan/sensitivity.encoder.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_sensitivity.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_sensitivity.tsv"
    conda:
        "../envs/text.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    params:
        code=code("evaluate_sensitivity.py"),
        encoder=ENCODER,
        sensitivity=lookup(within=config, dpath="pan/sensitivity"),
        threads=lookup(within=config, dpath="compute/threads"),
    message:
        "Measuring semantic sensitivity of {wildcards.model}"
    script:
        "../scripts/evaluate_sensitivity.py"


rule evaluate_bleurt:
    input:
        neurons=pan_neurons("plain"),
        tokens="<results>/models/{model}/neuron_tokens.parquet",
    output:
        sensitivity="<results>/{dataset}/{model}/metrics/pan/sensitivity.bleurt.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_bleurt.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_bleurt.tsv"
    conda:
        "../envs/bleurt.yaml" if config["metrics"]["bleurt"] else "../envs/data.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    params:
        code=code("evaluate_bleurt.py"),
        threads=lookup(within=config, dpath="compute/threads"),
        checkpoint=lookup(within=config, dpath="metrics/bleurt"),
        sensitivity=lookup(within=config, dpath="pan/sensitivity"),
    message:
        "Measuring semantic sensitivity of {wildcards.model} by BLEURT"
    script:
        "../scripts/evaluate_bleurt.py"


rule evaluate_invariance:
    input:
        plain=pan_neurons("plain"),
        shuffled=pan_neurons("shuffled"),
        specificity="<results>/{dataset}/{model}/record/specificity.parquet",
    output:
        invariance="<results>/{dataset}/{model}/metrics/pan/invariance.csv",
        cross_image="<results>/{dataset}/{model}/metrics/pan/cross_image.csv",
        specificity="<results>/{dataset}/{model}/metrics/pan/specificity.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_invariance.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_invariance.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_invariance.py"),
        top_k=model_constant("top_k"),
        cross_image=lookup(within=config, dpath="pan/cross_image"),
        seed=lookup(within=config, dpath="pan/seed"),
    message:
        "Measuring invariance and specificity of {wildcards.model}"
    script:
        "../scripts/evaluate_invariance.py"


rule evaluate_weights:
    input:
        concepts="<results>/{dataset}/{model}/captions/concepts.parquet",
        weight_noise="<results>/{dataset}/{model}/interventions/weight_noise.parquet",
        edits="<results>/{dataset}/{model}/interventions/edits.parquet",
    output:
        weight_noise="<results>/{dataset}/{model}/metrics/pan/weight_noise.csv",
        edits="<results>/{dataset}/{model}/metrics/pan/edits.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_weights.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_weights.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_weights.py"),
        prompt=pan_prompt,
    message:
        "Measuring noise on weights and edits of {wildcards.model}"
    script:
        "../scripts/evaluate_weights.py"


rule collect_caption_exclusions:
    input:
        prepare="<results>/{dataset}/pan/exclusions.parquet",
        captions="<results>/{dataset}/{model}/captions/pan_exclusions.parquet",
        edits=[],
    output:
        "<results>/{dataset}/{model}/metrics/pan/exclusions.captions.parquet",
    log:
        "<logs>/{dataset}/{model}/collect_caption_exclusions.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/collect_caption_exclusions.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("collect_pan_exclusions.py"),
    message:
        "Listing what was left out of the captions of {wildcards.model}"
    script:
        "../scripts/collect_pan_exclusions.py"


rule collect_pan_exclusions:
    input:
        prepare="<results>/{dataset}/pan/exclusions.parquet",
        captions="<results>/{dataset}/{model}/captions/pan_exclusions.parquet",
        edits=shards_of("<results>/{dataset}/{model}/interventions/edits/{shard}.left_out.parquet"),
    output:
        "<results>/{dataset}/{model}/metrics/pan/exclusions.parquet",
    log:
        "<logs>/{dataset}/{model}/collect_pan_exclusions.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/collect_pan_exclusions.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("collect_pan_exclusions.py"),
    message:
        "Listing what was left out of {wildcards.model}"
    script:
        "../scripts/collect_pan_exclusions.py"
