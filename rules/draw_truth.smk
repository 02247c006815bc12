"""Draw the truth benchmark's figures and tables.

In: truth/{model}/metrics/*.csv, truth/{model}/record/*.parquet. Out: figures/truth/{item}.svg, .png and .csv, tables
as .csv and .md.
"""


# Drawing is short and would wait for longer than it works.
localrules:
    draw_truth_figure,
    draw_truth_table,


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
