"""Record, for the comparison: the neurons' scores by every method on every model, on the same pictures.

In: samples.parquet and inpainted/ of rules/prepare.smk. Out: {dataset}/{model}/comparison/record_shards/.
"""


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
