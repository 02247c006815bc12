"""Draw the comparison's figures and tables.

In: metrics/comparison/*.csv of all models, {dataset}/comparison/summary.csv. Out: figures/comparison/{item}.svg,
.png and .csv, tables as .csv and .md.
"""


# Drawing is short and would wait for longer than it works.
localrules:
    draw_comparison_figure,
    draw_comparison_table,


rule draw_comparison_figure:
    input:
        unpack(comparison_inputs),
    output:
        svg=report(
            "<results>/figures/comparison/{item}.svg",
            caption="../resources/captions/comparison.rst",
            category=COMPARISON_CATEGORY,
            labels=comparison_labels,
        ),
        png="<results>/figures/comparison/{item}.png",
        csv="<results>/figures/comparison/{item}.csv",
    log:
        "<logs>/figures/draw_comparison_figure.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_comparison_figure.{item}.tsv"
    wildcard_constraints:
        item="|".join(COMPARISON_DRAWN),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_comparison_figure.py"),
        item="{item}",
        options=comparison_options,
        style=comparison_style,
        caption=comparison_caption,
        title=comparison_title,
        methods=COMPARED_METHODS,
        models=COMPARED_LABELS,
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
        dpi=lookup(within=config, dpath="figures/dpi"),
    message:
        "Drawing comparison {wildcards.item}"
    script:
        "../scripts/draw_comparison_figure.py"


rule draw_comparison_table:
    input:
        unpack(comparison_inputs),
    output:
        csv="<results>/figures/comparison/{item}.csv",
        md=report(
            "<results>/figures/comparison/{item}.md",
            caption="../resources/captions/comparison.rst",
            category=COMPARISON_CATEGORY,
            labels=comparison_labels,
        ),
    log:
        "<logs>/figures/draw_comparison_table.{item}.log",
    benchmark:
        "<benchmarks>/figures/draw_comparison_table.{item}.tsv"
    wildcard_constraints:
        item="|".join(sorted(set(COMPARISON_ITEMS) - set(COMPARISON_DRAWN))),
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_comparison_table.py"),
        item="{item}",
        options=comparison_options,
        title=comparison_title,
        caption=comparison_caption,
        methods=COMPARED_METHODS,
        models=COMPARED_LABELS,
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Setting comparison {wildcards.item}"
    script:
        "../scripts/draw_comparison_table.py"
