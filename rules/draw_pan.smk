"""Draw: every figure and table of Pan et al. 2024, each a target of its own.

In: neuron tables, metrics, recordings of all models of `pan.models`. Out: figures/pan/{item}.svg,
.png and .csv, tables as .csv and .md. Nothing here holds a model or computes a result. Items of
one kind share a rule; rules/pan_items.smk says what each of them reads and shows.
"""


localrules:
    draw_pan_figure,
    draw_pan_maps,
    draw_pan_table,
    draw_pan_exclusions,


rule draw_pan_figure:
    input:
        unpack(pan_inputs),
    output:
        svg=report(
            "<results>/figures/pan/{item}.svg",
            caption="../resources/captions/pan.rst",
            category=PAN_CATEGORY,
            labels=pan_labels,
        ),
        png="<results>/figures/pan/{item}.png",
        csv="<results>/figures/pan/{item}.csv",
    log:
        "<logs>/figures/draw_pan_figure.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_pan_figure.{item}.tsv"
    wildcard_constraints:
        item="|".join(PAN_DRAWN),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_pan_figure.py"),
        item="{item}",
        options=pan_options,
        style=pan_style,
        caption=pan_caption,
        models=LABELS,
        dataset_label=DATASETS[PAN["dataset"]]["label"],
        dpi=lookup(within=config, dpath="figures/dpi"),
    message:
        "Drawing pan {wildcards.item}"
    script:
        "../scripts/draw_pan_figure.py"


rule draw_pan_maps:
    input:
        unpack(pan_inputs),
    output:
        svg=report(
            "<results>/figures/pan/{item}.svg",
            caption="../resources/captions/pan.rst",
            category=PAN_CATEGORY,
            labels=pan_labels,
        ),
        png="<results>/figures/pan/{item}.png",
        csv="<results>/figures/pan/{item}.csv",
    log:
        "<logs>/figures/draw_pan_maps.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_pan_maps.{item}.tsv"
    wildcard_constraints:
        item="|".join(PAN_MAPS),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_pan_maps.py"),
        options=pan_options,
        style=pan_style,
        caption=pan_caption,
        models=LABELS,
        root=DATASETS[PAN["dataset"]]["root"],
        dataset_label=DATASETS[PAN["dataset"]]["label"],
        dpi=lookup(within=config, dpath="figures/dpi"),
    message:
        "Drawing pan {wildcards.item}"
    script:
        "../scripts/draw_pan_maps.py"


rule draw_pan_table:
    input:
        unpack(pan_inputs),
    output:
        csv="<results>/figures/pan/{item}.csv",
        md=report(
            "<results>/figures/pan/{item}.md",
            caption="../resources/captions/pan.rst",
            category=PAN_CATEGORY,
            labels=pan_labels,
        ),
    log:
        "<logs>/figures/draw_pan_table.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_pan_table.{item}.tsv"
    wildcard_constraints:
        item="|".join(sorted(set(PAN_ITEMS) - {"exclusions", *PAN_DRAWN, *PAN_MAPS})),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_pan_table.py"),
        item="{item}",
        options=pan_options,
        title=pan_title,
        caption=pan_caption,
        models=LABELS,
        dataset_label=DATASETS[PAN["dataset"]]["label"],
    message:
        "Setting pan {wildcards.item}"
    script:
        "../scripts/draw_pan_table.py"


rule draw_pan_exclusions:
    input:
        unpack(pan_inputs),
    output:
        csv="<results>/figures/pan/{item}.csv",
        md=report(
            "<results>/figures/pan/{item}.md",
            caption="../resources/captions/pan.rst",
            category=PAN_CATEGORY,
            labels=pan_labels,
        ),
    log:
        "<logs>/figures/draw_pan_exclusions.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_pan_exclusions.{item}.tsv"
    wildcard_constraints:
        item="exclusions",
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_pan_exclusions.py"),
        title=pan_title,
        caption=pan_caption,
        models=LABELS,
        dataset_label=DATASETS[PAN["dataset"]]["label"],
    message:
        "Setting what was left out of pan"
    script:
        "../scripts/draw_pan_exclusions.py"
