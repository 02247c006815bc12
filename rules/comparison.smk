"""Compare: the neurons of every method on every model, on the same pictures.

In: samples.parquet and inpainted/ of rules/prepare.smk. Out: {dataset}/{model}/comparison/valid.parquet,
neurons.parquet, captions.parquet and exclusions.parquet; {dataset}/{model}/metrics/comparison/*.csv;
{dataset}/comparison/summary.csv; figures/comparison/*.
"""


# They only put small tables together or draw, and would wait for longer than they work.
localrules:
    select_comparison,
    summarise_comparison,
    draw_comparison_figure,
    draw_comparison_table,


rule record_comparison:
    input:
        checkpoint=model_files,
        samples="<results>/{dataset}/two_stage/samples.parquet",
        inpainted="<results>/{dataset}/two_stage/inpainted",
        categories=dataset_categories,
    output:
        folder=temp(directory("<results>/{dataset}/{model}/comparison/record_shards/{shard}")),
    log:
        "<logs>/{dataset}/{model}/record_comparison.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/record_comparison.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_comparison.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        constants=comparison_constants,
        prompt=comparison_prompt,
        root=dataset_root,
        methods=COMPARED,
        site=lookup(within=config, dpath="comparison/site"),
        share=lookup(within=config, dpath="comparison/share"),
        pictures=lookup(within=config, dpath="comparison/pictures"),
        halves=lookup(within=config, dpath="comparison/halves"),
        max_new_tokens=lookup(within=config, dpath="comparison/max_new_tokens"),
        cost_repeats=lookup(within=config, dpath="comparison/cost_repeats"),
        seed=lookup(within=config, dpath="comparison/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Scoring the neurons of {wildcards.model} by every method, shard {wildcards.shard}"
    script:
        "../scripts/record_comparison.py"


rule select_comparison:
    input:
        folders=shards_of("<results>/{dataset}/{model}/comparison/record_shards/{shard}"),
    output:
        valid="<results>/{dataset}/{model}/comparison/valid.parquet",
        neurons="<results>/{dataset}/{model}/comparison/neurons.parquet",
        exclusions=temp("<results>/{dataset}/{model}/comparison/exclusions.selection.parquet"),
        capabilities="<results>/{dataset}/{model}/metrics/comparison/capabilities.csv",
        costs="<results>/{dataset}/{model}/metrics/comparison/costs.csv",
    log:
        "<logs>/{dataset}/{model}/select_comparison.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/select_comparison.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("select_comparison.py"),
        methods=COMPARED,
        measures=METHODS["measures"],
        pictures=lookup(within=config, dpath="comparison/pictures"),
        halves=lookup(within=config, dpath="comparison/halves"),
        control_seeds=lookup(within=config, dpath="comparison/control_seeds"),
        seed=lookup(within=config, dpath="comparison/seed"),
    message:
        "Selecting as many neurons of {wildcards.model} by every method"
    script:
        "../scripts/select_comparison.py"


rule intervene_comparison:
    input:
        checkpoint=model_files,
        valid="<results>/{dataset}/{model}/comparison/valid.parquet",
        neurons="<results>/{dataset}/{model}/comparison/neurons.parquet",
    output:
        folder=temp(directory("<results>/{dataset}/{model}/comparison/test_shards/{shard}")),
    log:
        "<logs>/{dataset}/{model}/intervene_comparison.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/intervene_comparison.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("intervene_comparison.py", adapter=True),
        model=model_row,
        compute=compute("noise_batch_size"),
        constants=comparison_constants,
        prompt=comparison_prompt,
        root=dataset_root,
        site=lookup(within=config, dpath="comparison/site"),
        other_pictures=lookup(within=config, dpath="comparison/other_pictures"),
        noise_draws=lookup(within=config, dpath="comparison/noise_draws"),
        max_new_tokens=lookup(within=config, dpath="comparison/max_new_tokens"),
        seed=lookup(within=config, dpath="comparison/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Testing every method's neurons of {wildcards.model}, shard {wildcards.shard}"
    script:
        "../scripts/intervene_comparison.py"


rule evaluate_comparison:
    input:
        folders=shards_of("<results>/{dataset}/{model}/comparison/test_shards/{shard}"),
        valid="<results>/{dataset}/{model}/comparison/valid.parquet",
        neurons="<results>/{dataset}/{model}/comparison/neurons.parquet",
        exclusions="<results>/{dataset}/{model}/comparison/exclusions.selection.parquet",
        categories=dataset_categories,
        annotations=dataset_annotations,
    output:
        captions="<results>/{dataset}/{model}/comparison/captions.parquet",
        exclusions="<results>/{dataset}/{model}/comparison/exclusions.parquet",
        cells="<results>/{dataset}/{model}/metrics/comparison/cells.csv",
        fields="<results>/{dataset}/{model}/metrics/comparison/fields.csv",
        agreement="<results>/{dataset}/{model}/metrics/comparison/agreement.csv",
        layers="<results>/{dataset}/{model}/metrics/comparison/layers.csv",
    log:
        "<logs>/{dataset}/{model}/evaluate_comparison.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/evaluate_comparison.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_comparison.py"),
        methods=list(COMPARED),
        rbo=lookup(within=config, dpath="comparison/rbo"),
    message:
        "Measuring what every method's neurons of {wildcards.model} do"
    script:
        "../scripts/evaluate_comparison.py"


rule summarise_comparison:
    input:
        cells=of_compared("metrics/comparison/cells.csv"),
    output:
        summary="<results>/{dataset}/comparison/summary.csv",
    log:
        "<logs>/{dataset}/summarise_comparison.log",
    benchmark:
        "<benchmarks>/{dataset}/summarise_comparison.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("summarise_comparison.py"),
        models=COMPARED_LABELS,
        seed=lookup(within=config, dpath="comparison/seed"),
    message:
        "Averaging the comparison over concepts and models"
    script:
        "../scripts/summarise_comparison.py"


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
