"""Draw: every figure and table of MMNeuron (Huo et al. 2024), each a target of its own.

In: questions, domain neurons, metrics and recordings of the models of `mmneuron`. Out:
figures/mmneuron/{item}.svg, .png and .csv, tables as .csv and .md. Nothing here holds a model or
computes a result; rules/mmneuron_items.smk says what each item reads and shows.
"""


localrules:
    draw_mmneuron_figure,
    draw_mmneuron_table,


rule draw_mmneuron_figure:
    input:
        unpack(mmneuron_inputs),
    output:
        svg=report(
            "<results>/figures/mmneuron/{item}.svg",
            caption="../resources/captions/mmneuron.rst",
            category=MMNEURON_CATEGORY,
            labels=mmneuron_labels,
        ),
        png="<results>/figures/mmneuron/{item}.png",
        csv="<results>/figures/mmneuron/{item}.csv",
    log:
        "<logs>/figures/draw_mmneuron_figure.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_mmneuron_figure.{item}.tsv"
    wildcard_constraints:
        item="|".join(MMNEURON_DRAWN),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_mmneuron_figure.py"),
        item="{item}",
        options=mmneuron_options,
        style=mmneuron_style,
        caption=mmneuron_caption,
        models=mmneuron_labels_of_models,
        datasets=MMNEURON_DATASETS,
        roots=mmneuron_roots,
        dpi=lookup(within=config, dpath="figures/dpi"),
    message:
        "Drawing mmneuron {wildcards.item}"
    script:
        "../scripts/draw_mmneuron_figure.py"


rule draw_mmneuron_table:
    input:
        unpack(mmneuron_inputs),
    output:
        csv="<results>/figures/mmneuron/{item}.csv",
        md=report(
            "<results>/figures/mmneuron/{item}.md",
            caption="../resources/captions/mmneuron.rst",
            category=MMNEURON_CATEGORY,
            labels=mmneuron_labels,
        ),
    log:
        "<logs>/figures/draw_mmneuron_table.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_mmneuron_table.{item}.tsv"
    wildcard_constraints:
        item="|".join(sorted(set(MMNEURON_ITEMS) - set(MMNEURON_DRAWN))),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_mmneuron_table.py"),
        item="{item}",
        options=mmneuron_options,
        title=mmneuron_title,
        caption=mmneuron_caption,
        models=mmneuron_labels_of_models,
        datasets=MMNEURON_DATASETS,
    message:
        "Setting mmneuron {wildcards.item}"
    script:
        "../scripts/draw_mmneuron_table.py"
