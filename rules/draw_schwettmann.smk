"""Draw: every figure and table of Schwettmann et al. 2023, each a target of its own.

In: neuron tables, maps, metrics of the model of `schwettmann.model`. Out:
figures/schwettmann/{item}.svg, .png and .csv, tables as .csv and .md. Nothing here holds a model or
computes a result. Items of one kind share a rule; rules/schwettmann_items.smk says what each of them
reads and shows.
"""


localrules:
    draw_schwettmann_figure,
    draw_schwettmann_pictures,
    draw_schwettmann_table,


rule draw_schwettmann_figure:
    input:
        unpack(schwettmann_inputs),
    output:
        svg=report(
            "<results>/figures/schwettmann/{item}.svg",
            caption="../resources/captions/schwettmann.rst",
            category=SCHWETTMANN_CATEGORY,
            labels=schwettmann_labels,
        ),
        png="<results>/figures/schwettmann/{item}.png",
        csv="<results>/figures/schwettmann/{item}.csv",
    log:
        "<logs>/figures/draw_schwettmann_figure.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_schwettmann_figure.{item}.tsv"
    wildcard_constraints:
        item="|".join(sorted(set(SCHWETTMANN_DRAWN) - set(SCHWETTMANN_PICTURED))),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_schwettmann_figure.py"),
        item="{item}",
        options=schwettmann_options,
        style=schwettmann_style,
        caption=schwettmann_caption,
        model=MODELS[SCHWETTMANN["model"]]["label"],
        dataset_label=DATASETS[SCHWETTMANN["dataset"]]["label"],
        dpi=lookup(within=config, dpath="figures/dpi"),
    message:
        "Drawing schwettmann {wildcards.item}"
    script:
        "../scripts/draw_schwettmann_figure.py"


rule draw_schwettmann_pictures:
    input:
        unpack(schwettmann_inputs),
    output:
        svg=report(
            "<results>/figures/schwettmann/{item}.svg",
            caption="../resources/captions/schwettmann.rst",
            category=SCHWETTMANN_CATEGORY,
            labels=schwettmann_labels,
        ),
        png="<results>/figures/schwettmann/{item}.png",
        csv="<results>/figures/schwettmann/{item}.csv",
    log:
        "<logs>/figures/draw_schwettmann_pictures.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_schwettmann_pictures.{item}.tsv"
    wildcard_constraints:
        item="|".join(SCHWETTMANN_PICTURED),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_schwettmann_pictures.py"),
        item="{item}",
        options=schwettmann_options,
        style=schwettmann_style,
        caption=schwettmann_caption,
        model=MODELS[SCHWETTMANN["model"]]["label"],
        root=DATASETS[SCHWETTMANN["dataset"]]["root"],
        dataset_label=DATASETS[SCHWETTMANN["dataset"]]["label"],
        dpi=lookup(within=config, dpath="figures/dpi"),
    message:
        "Drawing schwettmann {wildcards.item}"
    script:
        "../scripts/draw_schwettmann_pictures.py"


rule draw_schwettmann_table:
    input:
        unpack(schwettmann_inputs),
    output:
        csv="<results>/figures/schwettmann/{item}.csv",
        md=report(
            "<results>/figures/schwettmann/{item}.md",
            caption="../resources/captions/schwettmann.rst",
            category=SCHWETTMANN_CATEGORY,
            labels=schwettmann_labels,
        ),
    log:
        "<logs>/figures/draw_schwettmann_table.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_schwettmann_table.{item}.tsv"
    wildcard_constraints:
        item="|".join(sorted(set(SCHWETTMANN_ITEMS) - set(SCHWETTMANN_DRAWN))),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_schwettmann_table.py"),
        item="{item}",
        options=schwettmann_options,
        title=schwettmann_title,
        caption=schwettmann_caption,
        model=MODELS[SCHWETTMANN["model"]]["label"],
        dataset_label=DATASETS[SCHWETTMANN["dataset"]]["label"],
    message:
        "Setting schwettmann {wildcards.item}"
    script:
        "../scripts/draw_schwettmann_table.py"
