"""Fetch: checkpoints of real models, as published, and made into what the adapters load.

In: the rows of resources/models.yaml and resources/encoders.yaml that have a source. Out:
resources/originals/{original}/, and {checkpoint}/ as the row's path names it. Both rules are only
for checkpoints that are not there: one that is, fetched or placed by hand, is never made again.
"""


rule fetch_original:
    output:
        receipt="resources/originals/{original}/download.json",
    log:
        "<logs>/fetch_original.{original}.log",
    benchmark:
        "<benchmarks>/fetch_original.{original}.tsv"
    wildcard_constraints:
        original=one_of(ORIGINALS),
    localrule: True
    conda:
        "../envs/hub.yaml"
    params:
        original=lambda wildcards: asdict(ORIGINALS[wildcards.original]),
    message:
        "Fetching {wildcards.original}"
    script:
        "../scripts/fetch_original.py"


rule convert_checkpoint:
    input:
        lambda wildcards: [
            f"{folder}/download.json" for folder in original_folders(wildcards).values()
        ],
    output:
        config="{checkpoint}/config.json",
    log:
        "<logs>/convert_checkpoint/{checkpoint}/convert_checkpoint.log",
    benchmark:
        "<benchmarks>/convert_checkpoint/{checkpoint}/convert_checkpoint.tsv"
    wildcard_constraints:
        checkpoint=one_of(ABSENT),
    conda:
        "../envs/convert.yaml"
    threads: 1
    resources:
        mem_mb=conversion_memory,
        runtime=lambda wildcards, attempt: doubled(240, attempt, config["compute"]["max_runtime"]),
    params:
        convert=lambda wildcards: ABSENT[wildcards.checkpoint].convert,
        originals=original_folders,
    message:
        "Making {wildcards.checkpoint} of what was published"
    script:
        "../scripts/convert_checkpoint.py"
