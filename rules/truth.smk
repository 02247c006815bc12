"""Truth: does a method find units that are known to carry a concept?

In: resources/plantings/{model}/{planting}.{safetensors,json}, which `train_plantings` makes, and
drawn pictures. Out: truth/{model}/record/*.parquet, metrics/*.csv; figures/truth/{item}.svg, .png
and .csv, tables as .csv and .md. docs/truth.md explains all of it.
"""


localrules:
    merge_truth,
    draw_truth_figure,
    draw_truth_table,


rule draw_truth_pictures:
    output:
        table="<results>/truth/pictures.parquet",
        pictures=directory("<results>/truth/pictures"),
    log:
        "<logs>/truth/draw_truth_pictures.log",
    benchmark:
        "<benchmarks>/truth/draw_truth_pictures.tsv"
    conda:
        "../envs/torch.yaml"
    params:
        code=code("draw_truth_pictures.py"),
        concepts=TRUTH_PICTURES,
        seed=lookup(within=config, dpath="truth/seed"),
    message:
        "Drawing pictures with and without the planted objects"
    script:
        "../scripts/draw_truth_pictures.py"


rule record_truth:
    input:
        checkpoint=model_files,
        plantings=planting_files,
        table="<results>/truth/pictures.parquet",
        pictures="<results>/truth/pictures",
        categories=TRUTH_CATEGORIES,
    output:
        standings=temp("<results>/truth/{model}/record/shards/{shard}.standings.parquet"),
        plantings=temp("<results>/truth/{model}/record/shards/{shard}.plantings.parquet"),
        exclusions=temp("<results>/truth/{model}/record/shards/{shard}.exclusions.parquet"),
    log:
        "<logs>/truth/{model}/record_truth.{shard}.log",
    benchmark:
        "<benchmarks>/truth/{model}/record_truth.{shard}.tsv"
    wildcard_constraints:
        model=one_of(TRUTH["models"]),
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_truth.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        plantings=planting_rows,
        prompt=planting_prompt,
        others=lookup(within=config, dpath="truth/others/objects"),
        n_others=lookup(within=config, dpath="truth/others/pictures"),
        pictures=lookup(within=config, dpath="truth/pictures"),
        max_new_tokens=lookup(within=config, dpath="truth/max_new_tokens"),
        sites=lookup(within=config, dpath="truth/sites"),
        seed=lookup(within=config, dpath="truth/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Asking every method for the planted units of {wildcards.model}, shard {wildcards.shard}"
    script:
        "../scripts/record_truth.py"


rule merge_truth:
    input:
        standings=shards_of("<results>/truth/{model}/record/shards/{shard}.standings.parquet"),
        plantings=shards_of("<results>/truth/{model}/record/shards/{shard}.plantings.parquet"),
        exclusions=shards_of("<results>/truth/{model}/record/shards/{shard}.exclusions.parquet"),
    output:
        standings="<results>/truth/{model}/record/standings.parquet",
        plantings="<results>/truth/{model}/record/plantings.parquet",
        exclusions="<results>/truth/{model}/record/exclusions.parquet",
    log:
        "<logs>/truth/{model}/merge_truth.log",
    benchmark:
        "<benchmarks>/truth/{model}/merge_truth.tsv"
    wildcard_constraints:
        model=one_of(TRUTH["models"]),
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_truth.py"),
    message:
        "Putting the shards of {wildcards.model} together"
    script:
        "../scripts/merge_truth.py"


rule evaluate_truth:
    input:
        standings="<results>/truth/{model}/record/standings.parquet",
        plantings="<results>/truth/{model}/record/plantings.parquet",
    output:
        scores="<results>/truth/{model}/metrics/scores.csv",
        summary="<results>/truth/{model}/metrics/summary.csv",
        curves="<results>/truth/{model}/metrics/curves.csv",
    log:
        "<logs>/truth/{model}/evaluate_truth.log",
    benchmark:
        "<benchmarks>/truth/{model}/evaluate_truth.tsv"
    wildcard_constraints:
        model=one_of(TRUTH["models"]),
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_truth.py"),
        seed=lookup(within=config, dpath="truth/seed"),
    message:
        "Measuring how many planted units of {wildcards.model} each method finds"
    script:
        "../scripts/evaluate_truth.py"


rule draw_truth_figure:
    input:
        unpack(truth_inputs),
    output:
        svg=report(
            "<results>/figures/truth/{item}.svg",
            caption="../resources/captions/truth.rst",
            category=TRUTH_CATEGORY,
            labels=truth_labels,
        ),
        png="<results>/figures/truth/{item}.png",
        csv="<results>/figures/truth/{item}.csv",
    log:
        "<logs>/figures/draw_truth_figure.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_truth_figure.{item}.tsv"
    wildcard_constraints:
        item="|".join(TRUTH_DRAWN),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_truth_figure.py"),
        item="{item}",
        style=truth_style,
        caption=truth_caption,
        models=TRUTH_LABELS,
        dpi=lookup(within=config, dpath="figures/dpi"),
    message:
        "Drawing truth {wildcards.item}"
    script:
        "../scripts/draw_truth_figure.py"


rule draw_truth_table:
    input:
        unpack(truth_inputs),
    output:
        csv="<results>/figures/truth/{item}.csv",
        md=report(
            "<results>/figures/truth/{item}.md",
            caption="../resources/captions/truth.rst",
            category=TRUTH_CATEGORY,
            labels=truth_labels,
        ),
    log:
        "<logs>/figures/draw_truth_table.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_truth_table.{item}.tsv"
    wildcard_constraints:
        item="|".join(sorted(set(TRUTH_ITEMS) - set(TRUTH_DRAWN))),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_truth_table.py"),
        item="{item}",
        title=truth_title,
        caption=truth_caption,
        models=TRUTH_LABELS,
    message:
        "Setting truth {wildcards.item}"
    script:
        "../scripts/draw_truth_table.py"
