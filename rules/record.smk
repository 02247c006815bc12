"""Record: the only rules that look inside a model.

In: valid.parquet, pictures. Out: {dataset}/{model}/record/two_stage.safetensors, tokens.parquet
and gradcam.safetensors.
"""


rule record_two_stage:
    input:
        checkpoint=model_files,
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        inpainted="<results>/{dataset}/two_stage/inpainted",
    output:
        tensors=temp("<results>/{dataset}/{model}/record/shards/{shard}.safetensors"),
        tokens=temp("<results>/{dataset}/{model}/record/shards/{shard}.parquet"),
    log:
        "<logs>/{dataset}/{model}/record_two_stage.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/record_two_stage.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_two_stage.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=PROMPTS[TWO_STAGE["prompt"]],
        root=dataset_root,
        sites=lookup(within=config, dpath="two_stage/sites"),
        record=lookup(within=config, dpath="two_stage/record"),
        map_units=lookup(within=config, dpath="two_stage/map_units"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Recording activations and gradients, shard {wildcards.shard}"
    script:
        "../scripts/record_two_stage.py"


rule merge_records:
    input:
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        tensors=shards_of("<results>/{dataset}/{model}/record/shards/{shard}.safetensors"),
        tokens=shards_of("<results>/{dataset}/{model}/record/shards/{shard}.parquet"),
    output:
        tensors="<results>/{dataset}/{model}/record/two_stage.safetensors",
        tokens="<results>/{dataset}/{model}/record/tokens.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_records.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_records.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_records.py"),
    message:
        "Putting the recordings together"
    script:
        "../scripts/merge_records.py"


rule record_gradcam:
    input:
        checkpoint=model_files,
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
    output:
        maps="<results>/{dataset}/{model}/record/gradcam.safetensors",
    log:
        "<logs>/{dataset}/{model}/record_gradcam.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/record_gradcam.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_gradcam.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=PROMPTS[TWO_STAGE["prompt"]],
        root=dataset_root,
        pictures=lookup(within=config, dpath="two_stage/gradcam_pictures"),
    message:
        "Mapping the target words by GradCAM"
    script:
        "../scripts/record_gradcam.py"
