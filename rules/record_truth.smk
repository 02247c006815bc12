"""Record, for the truth benchmark: where every method ranks the units that are known to carry an object.

In: resources/plantings/{model}/{planting}.{safetensors,json}, which `train_plantings` makes, and truth/pictures.
Out: truth/{model}/record/{standings,plantings,exclusions}.parquet.
"""


# It only puts small tables together, and would wait for longer than it works.
localrules:
    merge_truth,


rule record_truth:
    input:
        checkpoint=model_files,
        plantings=planting_files,
        table="<results>/truth/pictures.parquet",
        pictures="<results>/truth/pictures",
        categories=TRUTH_CATEGORIES,
    output:
        standings=temp("<results>/truth/{model}/record/shards/{shard}.standings.parquet"),
        plantings=temp("<results>/truth/{model}/record/shards/{shard}.plantings.parquet"),
        exclusions=temp("<results>/truth/{model}/record/shards/{shard}.exclusions.parquet"),
    log:
        "<logs>/truth/{model}/record_truth.{shard}.log",
    benchmark:
        "<benchmarks>/truth/{model}/record_truth.{shard}.tsv"
    wildcard_constraints:
        model=one_of(PLANTINGS),
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_truth.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        plantings=planting_rows,
        prompt=planting_prompt,
        others=lookup(within=config, dpath="truth/others/objects"),
        n_others=lookup(within=config, dpath="truth/others/pictures"),
        pictures=lookup(within=config, dpath="truth/pictures"),
        max_new_tokens=lookup(within=config, dpath="truth/max_new_tokens"),
        sites=lookup(within=config, dpath="truth/sites"),
        seed=lookup(within=config, dpath="truth/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Asking every method for the planted units of {wildcards.model}, shard {wildcards.shard}"
    script:
        "../scripts/record_truth.py"


rule merge_truth:
    input:
        standings=shards_of("<results>/truth/{model}/record/shards/{shard}.standings.parquet"),
        plantings=shards_of("<results>/truth/{model}/record/shards/{shard}.plantings.parquet"),
        exclusions=shards_of("<results>/truth/{model}/record/shards/{shard}.exclusions.parquet"),
    output:
        standings="<results>/truth/{model}/record/standings.parquet",
        plantings="<results>/truth/{model}/record/plantings.parquet",
        exclusions="<results>/truth/{model}/record/exclusions.parquet",
    log:
        "<logs>/truth/{model}/merge_truth.log",
    benchmark:
        "<benchmarks>/truth/{model}/merge_truth.tsv"
    wildcard_constraints:
        model=one_of(PLANTINGS),
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_truth.py"),
    message:
        "Putting the shards of {wildcards.model} together"
    script:
        "../scripts/merge_truth.py"
