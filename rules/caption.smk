"""Caption: what the model says of each picture, and which samples that makes valid.

In: samples and inpainted pictures. Out: {dataset}/{model}/captions/captions.parquet,
valid.parquet and exclusions.parquet.
"""


rule caption_pictures:
    input:
        checkpoint=model_files,
        samples="<results>/{dataset}/two_stage/samples.parquet",
        inpainted="<results>/{dataset}/two_stage/inpainted",
    output:
        captions=temp("<results>/{dataset}/{model}/captions/shards/{shard}.parquet"),
    log:
        "<logs>/{dataset}/{model}/caption_pictures.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/caption_pictures.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("caption_pictures.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=PROMPTS[TWO_STAGE["prompt"]],
        max_new_tokens=lookup(within=config, dpath="two_stage/max_new_tokens"),
        root=dataset_root,
        shards=lookup(within=config, dpath="shards"),
    message:
        "Captioning originals and inpainted pictures, shard {wildcards.shard}"
    script:
        "../scripts/caption_pictures.py"


rule keep_valid_samples:
    input:
        captions=shards_of("<results>/{dataset}/{model}/captions/shards/{shard}.parquet"),
        samples="<results>/{dataset}/two_stage/samples.parquet",
        categories=dataset_categories,
    output:
        captions="<results>/{dataset}/{model}/captions/captions.parquet",
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        exclusions="<results>/{dataset}/{model}/captions/exclusions.parquet",
    log:
        "<logs>/{dataset}/{model}/keep_valid_samples.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/keep_valid_samples.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("keep_valid_samples.py"),
        pictures=lookup(within=config, dpath="two_stage/pictures_per_object"),
        calibration_pictures=lookup(within=config, dpath="two_stage/calibration_pictures"),
    message:
        "Keeping samples that satisfy the three constraints"
    script:
        "../scripts/keep_valid_samples.py"
