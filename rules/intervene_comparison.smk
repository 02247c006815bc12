"""Intervene, for the comparison: noise, zero ablation and edits with every method's neurons.

In: comparison/valid.parquet, neurons.parquet. Out: {dataset}/{model}/comparison/test_shards/.
"""


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
