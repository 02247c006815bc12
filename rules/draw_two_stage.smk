"""Draw: every figure and table of the papers, each a target of its own.

In: neuron tables, metrics, recordings. Out: figures/{paper}/{item}.svg, .png and .csv, tables as
.csv and .md. Nothing here holds a model or computes a result.
"""


localrules:
    two_stage_figure1,
    two_stage_figure2,
    two_stage_figure3,
    two_stage_table1,
    two_stage_table5,
    two_stage_table2,
    two_stage_table3,
    two_stage_table4,
    two_stage_figureS1,
    two_stage_tableS1,
    two_stage_tableS2,
    two_stage_exclusions,


rule two_stage_figure1:
    input:
        valid="<two_stage>/captions/valid.parquet",
        inpainted=f"<results>/{TWO_STAGE['dataset']}/two_stage/inpainted",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        svg=report(
            "<results>/figures/two_stage/figure1.svg",
            caption="../resources/captions/two_stage/figure1.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Figure 1: pictures with and without their object"},
        ),
        png="<results>/figures/two_stage/figure1.png",
        csv="<results>/figures/two_stage/figure1.csv",
    log:
        "<logs>/figures/two_stage_figure1.log",
    benchmark:
        "<benchmarks>/figures/two_stage_figure1.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_figure1.py"),
        objects=TWO_STAGE["objects"][:3],
        root=DATASETS[TWO_STAGE["dataset"]]["root"],
        dpi=lookup(within=config, dpath="figures/dpi"),
        style=lookup(within=config, dpath="figures/two_stage/figure1"),
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage figure1"
    script:
        "../scripts/draw_two_stage_figure1.py"


rule two_stage_figure2:
    input:
        valid="<two_stage>/captions/valid.parquet",
        record="<two_stage>/record/two_stage.safetensors",
        neurons=two_stage_neurons(METHODS_DRAWN),
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        svg=report(
            "<results>/figures/two_stage/figure2.svg",
            caption="../resources/captions/two_stage/figure2.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Figure 2: neurons per layer"},
        ),
        png="<results>/figures/two_stage/figure2.png",
        csv="<results>/figures/two_stage/figure2.csv",
    log:
        "<logs>/figures/two_stage_figure2.log",
    benchmark:
        "<benchmarks>/figures/two_stage_figure2.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_figure2.py"),
        methods=METHODS_DRAWN,
        site=SITE,
        dpi=lookup(within=config, dpath="figures/dpi"),
        style=lookup(within=config, dpath="figures/two_stage/figure2"),
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage figure2"
    script:
        "../scripts/draw_two_stage_figure2.py"


rule two_stage_figure3:
    input:
        valid="<two_stage>/captions/valid.parquet",
        neurons=two_stage_neurons([f"two_stage/{THRESHOLDS}"]),
        tokens="<two_stage>/record/tokens.parquet",
        record="<two_stage>/record/two_stage.safetensors",
        gradcam="<two_stage>/record/gradcam.safetensors",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        svg=report(
            "<results>/figures/two_stage/figure3.svg",
            caption="../resources/captions/two_stage/figure3.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Figure 3: where the neurons look and what they say"},
        ),
        png="<results>/figures/two_stage/figure3.png",
        csv="<results>/figures/two_stage/figure3.csv",
    log:
        "<logs>/figures/two_stage_figure3.log",
    benchmark:
        "<benchmarks>/figures/two_stage_figure3.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_figure3.py"),
        objects=lookup(within=config, dpath="two_stage/objects"),
        root=DATASETS[TWO_STAGE["dataset"]]["root"],
        site=SITE,
        dpi=lookup(within=config, dpath="figures/dpi"),
        style=lookup(within=config, dpath="figures/two_stage/figure3"),
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage figure3"
    script:
        "../scripts/draw_two_stage_figure3.py"


rule two_stage_table1:
    input:
        valid="<two_stage>/captions/valid.parquet",
        noise=f"<two_stage>/interventions/noise.{SITE}.main.parquet",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        csv="<results>/figures/two_stage/table1.csv",
        md=report(
            "<results>/figures/two_stage/table1.md",
            caption="../resources/captions/two_stage/table1.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Table 1: captions under noise"},
        ),
    log:
        "<logs>/figures/two_stage_table1.log",
    benchmark:
        "<benchmarks>/figures/two_stage_table1.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_captions.py"),
        objects=TWO_STAGE["objects"][:3],
        methods=METHODS_MAIN,
        noise_unit=MODELS[TWO_STAGE["model"]]["noise"]["unit"],
        title="Table 1: captions under noise",
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage table1"
    script:
        "../scripts/draw_two_stage_captions.py"


rule two_stage_table5:
    input:
        valid="<two_stage>/captions/valid.parquet",
        noise=f"<two_stage>/interventions/noise.{SITE}.main.parquet",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        csv="<results>/figures/two_stage/table5.csv",
        md=report(
            "<results>/figures/two_stage/table5.md",
            caption="../resources/captions/two_stage/table5.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Table 5: captions under noise, more objects"},
        ),
    log:
        "<logs>/figures/two_stage_table5.log",
    benchmark:
        "<benchmarks>/figures/two_stage_table5.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_captions.py"),
        objects=TWO_STAGE["objects"][3:],
        methods=METHODS_MAIN,
        noise_unit=MODELS[TWO_STAGE["model"]]["noise"]["unit"],
        title="Table 5: captions under noise, more objects",
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage table5"
    script:
        "../scripts/draw_two_stage_captions.py"


rule two_stage_table2:
    input:
        valid="<two_stage>/captions/valid.parquet",
        suppression=f"<two_stage>/metrics/two_stage/suppression.{SITE}.main.csv",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        csv="<results>/figures/two_stage/table2.csv",
        md=report(
            "<results>/figures/two_stage/table2.md",
            caption="../resources/captions/two_stage/table2.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Table 2: suppression, retention and score"},
        ),
    log:
        "<logs>/figures/two_stage_table2.log",
    benchmark:
        "<benchmarks>/figures/two_stage_table2.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_table2.py"),
        objects=lookup(within=config, dpath="two_stage/objects"),
        methods=METHODS_MAIN,
        noise_unit=MODELS[TWO_STAGE["model"]]["noise"]["unit"],
        title="Table 2: suppression, retention and score",
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage table2"
    script:
        "../scripts/draw_two_stage_table2.py"


rule two_stage_table3:
    input:
        valid="<two_stage>/captions/valid.parquet",
        similarity=f"<two_stage>/metrics/two_stage/similarity.{SITE}.main.csv",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        csv="<results>/figures/two_stage/table3.csv",
        md=report(
            "<results>/figures/two_stage/table3.md",
            caption="../resources/captions/two_stage/table3.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Table 3: similarity to the inpainted picture's caption"},
        ),
    log:
        "<logs>/figures/two_stage_table3.log",
    benchmark:
        "<benchmarks>/figures/two_stage_table3.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_table3.py"),
        methods=METHODS_MAIN,
        title="Table 3: similarity to the inpainted picture's caption",
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage table3"
    script:
        "../scripts/draw_two_stage_table3.py"


rule two_stage_table4:
    input:
        valid="<two_stage>/captions/valid.parquet",
        thresholds=[f"<two_stage>/neurons/thresholds.{SITE}.{THRESHOLDS}.parquet"],
        paper="resources/thresholds/two_stage_paper.csv",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        csv="<results>/figures/two_stage/table4.csv",
        md=report(
            "<results>/figures/two_stage/table4.md",
            caption="../resources/captions/two_stage/table4.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Table 4: thresholds"},
        ),
    log:
        "<logs>/figures/two_stage_table4.log",
    benchmark:
        "<benchmarks>/figures/two_stage_table4.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_table4.py"),
        objects=lookup(within=config, dpath="two_stage/objects"),
        rules=[THRESHOLDS],
        title="Table 4: thresholds",
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage table4"
    script:
        "../scripts/draw_two_stage_table4.py"


rule two_stage_figureS1:
    input:
        valid="<two_stage>/captions/valid.parquet",
        suppression=f"<two_stage>/metrics/two_stage/suppression.{SITE}.main.csv",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        svg=report(
            "<results>/figures/two_stage/figureS1.svg",
            caption="../resources/captions/two_stage/figureS1.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Figure S1: suppression and retention by noise level"},
        ),
        png="<results>/figures/two_stage/figureS1.png",
        csv="<results>/figures/two_stage/figureS1.csv",
    log:
        "<logs>/figures/two_stage_figureS1.log",
    benchmark:
        "<benchmarks>/figures/two_stage_figureS1.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_levels.py"),
        methods=METHODS_MAIN,
        noise_unit=MODELS[TWO_STAGE["model"]]["noise"]["unit"],
        dpi=lookup(within=config, dpath="figures/dpi"),
        style=lookup(within=config, dpath="figures/two_stage/figureS1"),
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage figureS1"
    script:
        "../scripts/draw_two_stage_levels.py"


rule two_stage_tableS1:
    input:
        valid="<two_stage>/captions/valid.parquet",
        record="<two_stage>/record/two_stage.safetensors",
        neurons=two_stage_neurons(METHODS_ALL),
        suppression=[
            f"<two_stage>/metrics/two_stage/suppression.{SITE}.{part}.csv" for part in PARTS
        ],
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        csv="<results>/figures/two_stage/tableS1.csv",
        md=report(
            "<results>/figures/two_stage/tableS1.md",
            caption="../resources/captions/two_stage/tableS1.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Table S1: every variant"},
        ),
    log:
        "<logs>/figures/two_stage_tableS1.log",
    benchmark:
        "<benchmarks>/figures/two_stage_tableS1.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_variants.py"),
        methods=METHODS_ALL,
        title="Table S1: every variant",
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage tableS1"
    script:
        "../scripts/draw_two_stage_variants.py"


rule two_stage_tableS2:
    input:
        valid="<two_stage>/captions/valid.parquet",
        neurons=[
            path for site in TWO_STAGE["sites"] for path in two_stage_neurons(METHODS_MAIN, site)
        ],
        suppression=[
            f"<two_stage>/metrics/two_stage/suppression.{site}.main.csv"
            for site in TWO_STAGE["sites"]
        ],
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        csv="<results>/figures/two_stage/tableS2.csv",
        md=report(
            "<results>/figures/two_stage/tableS2.md",
            caption="../resources/captions/two_stage/tableS2.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "Table S2: both sites"},
        ),
    log:
        "<logs>/figures/two_stage_tableS2.log",
    benchmark:
        "<benchmarks>/figures/two_stage_tableS2.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_sites.py"),
        methods=METHODS_MAIN,
        sites=lookup(within=config, dpath="two_stage/sites"),
        title="Table S2: both sites",
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage tableS2"
    script:
        "../scripts/draw_two_stage_sites.py"


rule two_stage_exclusions:
    input:
        valid="<two_stage>/captions/valid.parquet",
        exclusions="<two_stage>/metrics/two_stage/exclusions.parquet",
    output:
        csv="<results>/figures/two_stage/exclusions.csv",
        md=report(
            "<results>/figures/two_stage/exclusions.md",
            caption="../resources/captions/two_stage/exclusions.rst",
            category="Two-stage filtering (Sato & Takagi 2025)",
            labels={"item": "What was left out"},
        ),
    log:
        "<logs>/figures/two_stage_exclusions.log",
    benchmark:
        "<benchmarks>/figures/two_stage_exclusions.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("draw_two_stage_exclusions.py"),
        title="What was left out",
        model_label=MODELS[TWO_STAGE["model"]]["label"],
        dataset_label=DATASETS[TWO_STAGE["dataset"]]["label"],
    message:
        "Drawing two_stage exclusions"
    script:
        "../scripts/draw_two_stage_exclusions.py"
