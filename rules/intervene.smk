"""Intervene: captions while chosen neurons carry noise.

In: neuron tables, recording. Out: {dataset}/{model}/interventions/noise.{site}.{part}.parquet.
"""


rule caption_under_noise:
    input:
        checkpoint=model_files,
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        record="<results>/{dataset}/{model}/record/two_stage.safetensors",
        neurons=neuron_tables,
    output:
        noise=temp("<results>/{dataset}/{model}/interventions/noise.{site}.{part}/{shard}.parquet"),
    log:
        "<logs>/{dataset}/{model}/caption_under_noise.{site}.{part}.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/caption_under_noise.{site}.{part}.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("caption_under_noise.py", adapter=True),
        model=model_row,
        compute=compute("noise_batch_size"),
        prompt=PROMPTS[TWO_STAGE["prompt"]],
        max_new_tokens=lookup(within=config, dpath="two_stage/max_new_tokens"),
        root=dataset_root,
        methods=two_stage_part,
        noise=lookup(within=config, dpath="two_stage/noise"),
        noise_scale=model_noise,
        control_draws=lookup(within=config, dpath="two_stage/control/draws"),
        other_pictures=lookup(within=config, dpath="two_stage/other_pictures"),
        seed=lookup(within=config, dpath="two_stage/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Captioning under noise: {wildcards.part}, {wildcards.site}, shard {wildcards.shard}"
    script:
        "../scripts/caption_under_noise.py"


rule merge_noise:
    input:
        shards_of("<results>/{dataset}/{model}/interventions/noise.{site}.{part}/{shard}.parquet"),
    output:
        "<results>/{dataset}/{model}/interventions/noise.{site}.{part}.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_noise.{site}.{part}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_noise.{site}.{part}.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_tables.py"),
        sort=["method", "variant", "seed", "sample_id", "picture_id", "level", "draw"],
    message:
        "Putting the captions under noise together: {wildcards.part}, {wildcards.site}"
    script:
        "../scripts/merge_tables.py"
