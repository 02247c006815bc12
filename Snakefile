"""Find, compare, test and edit the neurons that carry a concept through a multimodal model.

`snakemake --cores 2` builds the headline figures of the run that config.yaml describes, `snakemake
all` everything, `snakemake two_stage` one paper, `snakemake results/demo/figures/...` one figure.
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/pan_items.smk"
include: "rules/mmneuron_items.smk"
include: "rules/schwettmann_items.smk"
include: "rules/truth_items.smk"
include: "rules/comparison_items.smk"


pathvars:
    results=f"results/{config['run']}",
    logs=f"results/{config['run']}/logs",
    benchmarks=f"results/{config['run']}/benchmarks",
    domains=f"results/{config['run']}/domains",
    two_stage=f"results/{config['run']}/{TWO_STAGE['dataset']}/{TWO_STAGE['model']}",


wildcard_constraints:
    dataset="|".join(DATASETS),
    model="|".join(MODELS),
    site="act|post|pre",
    part="main|more",
    shard=r"\d+",


# Looked at before planning too: what ends meanwhile is planned again. Jobs read this file as well, and are no runs.
LEFT_OVER = left_over(Path.cwd(), patience=10) if workflow.is_main_process else ({}, {})


onstart:
    refuse_beside_others(
        Path.cwd(), slurm=workflow.executor_plugin.name == "slurm", before=LEFT_OVER
    )


include: "rules/world.smk"
include: "rules/fetch.smk"
include: "rules/fetch_checkpoints.smk"
include: "rules/prepare.smk"
include: "rules/prepare_questions.smk"
include: "rules/prepare_truth.smk"
include: "rules/caption.smk"
include: "rules/record.smk"
include: "rules/record_comparison.smk"
include: "rules/record_truth.smk"
include: "rules/select.smk"
include: "rules/select_domains.smk"
include: "rules/select_comparison.smk"
include: "rules/intervene.smk"
include: "rules/intervene_comparison.smk"
include: "rules/evaluate.smk"
include: "rules/evaluate_domains.smk"
include: "rules/evaluate_schwettmann.smk"
include: "rules/evaluate_comparison.smk"
include: "rules/evaluate_truth.smk"
include: "rules/draw_two_stage.smk"
include: "rules/draw_pan.smk"
include: "rules/draw_mmneuron.smk"
include: "rules/draw_schwettmann.smk"
include: "rules/draw_comparison.smk"
include: "rules/draw_truth.smk"
include: "rules/browser.smk"
include: "rules/share_items.smk"
include: "rules/share.smk"


rule demo:
    # The headline of every paper, within minutes; the target of plain `snakemake`.
    default_target: True
    input:
        TWO_STAGE_FIGURES,
        PAN_HEADLINE,
        MMNEURON_HEADLINE,
        SCHWETTMANN_HEADLINE,


rule two_stage:
    # Sato & Takagi 2025, every table and figure, and what goes beyond them.
    input:
        TWO_STAGE_FIGURES,
        TWO_STAGE_MORE,


rule pan:
    # Pan et al. 2024, every table and figure, and what goes beyond them.
    input:
        PAN_FIGURES,


rule mmneuron:
    # Huo et al. 2024, every table and figure, and what goes beyond them.
    input:
        MMNEURON_FIGURES,


rule schwettmann:
    # Schwettmann et al. 2023, every table and figure.
    input:
        SCHWETTMANN_FIGURES,


rule compare:
    # Every method on every model: one table and one figure, and what stands behind them.
    input:
        COMPARISON_FIGURES,


rule truth:
    # Which method finds units that are known to carry an object.
    input:
        TRUTH_FIGURES,


rule all:
    # Everything of every paper, the comparison of their methods, the truth benchmark, and the browser of their neurons.
    input:
        rules.two_stage.input,
        rules.pan.input,
        rules.mmneuron.input,
        rules.schwettmann.input,
        rules.compare.input,
        rules.truth.input,
        rules.browser.output,
