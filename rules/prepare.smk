"""Prepare: samples of a dataset, and their pictures without the object.

In: the published files. Out: {dataset}/two_stage/samples.parquet, exclusions.parquet and
inpainted/{sample_id}.png; {dataset}/pan/pictures.parquet and exclusions.parquet;
{dataset}/schwettmann/pictures.parquet and exclusions.parquet.
"""


rule choose_samples:
    input:
        annotations=dataset_annotations,
    output:
        samples="<results>/{dataset}/two_stage/samples.parquet",
        exclusions="<results>/{dataset}/two_stage/exclusions.parquet",
    log:
        "<logs>/{dataset}/choose_samples.log",
    benchmark:
        "<benchmarks>/{dataset}/choose_samples.tsv"
    localrule: from_the_web(TWO_STAGE["dataset"])
    conda:
        "../envs/data.yaml"
    params:
        code=code("choose_samples.py"),
        dataset=dataset_row,
        objects=lookup(within=config, dpath="two_stage/objects"),
        candidates=lookup(within=config, dpath="two_stage/candidates_per_object"),
        seed=lookup(within=config, dpath="two_stage/seed"),
    message:
        "Choosing pictures of each object"
    script:
        "../scripts/choose_samples.py"


rule inpaint_objects:
    input:
        samples="<results>/{dataset}/two_stage/samples.parquet",
    output:
        pictures=directory("<results>/{dataset}/two_stage/inpainted"),
    log:
        "<logs>/{dataset}/inpaint_objects.log",
    benchmark:
        "<benchmarks>/{dataset}/inpaint_objects.tsv"
    conda:
        branch(
            lookup(within=config, dpath="two_stage/inpainting/backend"),
            cases={"telea": "../envs/inpaint.yaml", "lama": "../envs/lama.yaml"},
        )
    params:
        code=code("inpaint_objects.py"),
        root=dataset_root,
        backend=lookup(within=config, dpath="two_stage/inpainting/backend"),
        options=inpainting_options(),
    message:
        "Painting the objects out"
    script:
        "../scripts/inpaint_objects.py"


rule choose_captioned_pictures:
    input:
        captions=captioned_list,
    output:
        pictures="<results>/{dataset}/pan/pictures.parquet",
        exclusions="<results>/{dataset}/pan/exclusions.parquet",
    log:
        "<logs>/{dataset}/choose_captioned_pictures.log",
    benchmark:
        "<benchmarks>/{dataset}/choose_captioned_pictures.tsv"
    localrule: from_the_web(PAN["dataset"])
    conda:
        "../envs/data.yaml"
    params:
        code=code("choose_captioned_pictures.py"),
        dataset=dataset_row,
        pictures=lookup(within=config, dpath="pan/pictures"),
        variant=lookup(within=config, dpath="pan/variant"),
        seed=lookup(within=config, dpath="pan/seed"),
    message:
        "Choosing captioned pictures"
    script:
        "../scripts/choose_captioned_pictures.py"


rule choose_described_pictures:
    input:
        annotations=dataset_annotations,
        captions=dataset_captions,
    output:
        pictures="<results>/{dataset}/schwettmann/pictures.parquet",
        exclusions="<results>/{dataset}/schwettmann/exclusions.parquet",
    log:
        "<logs>/{dataset}/choose_described_pictures.log",
    benchmark:
        "<benchmarks>/{dataset}/choose_described_pictures.tsv"
    localrule: from_the_web(SCHWETTMANN["dataset"])
    conda:
        "../envs/data.yaml"
    params:
        code=code("choose_described_pictures.py"),
        dataset=dataset_row,
        pictures=lookup(within=config, dpath="schwettmann/pictures"),
        single_objects=lookup(within=config, dpath="schwettmann/single_objects"),
        compared=lookup(within=config, dpath="schwettmann/selectivity/categories"),
        seed=lookup(within=config, dpath="schwettmann/seed"),
    message:
        "Choosing pictures that people described"
    script:
        "../scripts/choose_described_pictures.py"
