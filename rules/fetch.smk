"""Fetch: datasets as published.

In: resources/world.yaml; the web. Out: results/world/{dataset}/... in the published file formats; the
files of resources/datasets.yaml that are not there.
"""


rule download_dataset_archive:
    # Where the workflow was started: compute nodes of many clusters have no way to the web.
    output:
        temp("{archive}"),
    log:
        "<logs>/{archive}/download_dataset_archive.log",
    benchmark:
        "<benchmarks>/{archive}/download_dataset_archive.tsv"
    wildcard_constraints:
        archive=one_of(ARCHIVES),
    localrule: True
    conda:
        "../envs/data.yaml"
    params:
        code=code("download_dataset_archive.py"),
        dataset=lambda wildcards: source_of(ARCHIVES[wildcards.archive][0]),
        archive=lambda wildcards: ARCHIVES[wildcards.archive][1],
    message:
        "Fetching {wildcards.archive}"
    script:
        "../scripts/download_dataset_archive.py"


rule download_dataset_file:
    input:
        fetched_archive,
    output:
        "{file}",
    log:
        "<logs>/{file}/download_dataset_file.log",
    benchmark:
        "<benchmarks>/{file}/download_dataset_file.tsv"
    wildcard_constraints:
        file=one_of(FETCHED),
    localrule: True
    conda:
        "../envs/data.yaml"
    params:
        code=code("download_dataset_file.py"),
        dataset=fetched_row,
        file=fetched_name,
    message:
        "Fetching {wildcards.file}"
    script:
        "../scripts/download_dataset_file.py"


rule draw_world_coco:
    output:
        instances="results/world/coco/annotations/instances_val2017.json",
        captions="results/world/coco/annotations/captions_val2017.json",
        pictures=directory("results/world/coco/val2017"),
    log:
        "results/world/logs/draw_world_coco.log",
    benchmark:
        "results/world/benchmarks/draw_world_coco.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("draw_world_coco.py"),
        pictures=WORLD["datasets"]["coco"],
        seed=WORLD["seed"],
    message:
        "Drawing the COCO part of the embedded world"
    script:
        "../scripts/draw_world_coco.py"


rule draw_world_sbu:
    output:
        captions="results/world/sbu/sbu-captions-all.json",
        pictures=directory("results/world/sbu/images"),
    log:
        "results/world/logs/draw_world_sbu.log",
    benchmark:
        "results/world/benchmarks/draw_world_sbu.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("draw_world_sbu.py"),
        entries=WORLD["datasets"]["sbu"],
        seed=WORLD["seed"],
    message:
        "Drawing the SBU part of the embedded world"
    script:
        "../scripts/draw_world_sbu.py"


rule draw_world_vqav2:
    output:
        questions=expand(
            "results/world/vqav2/v2_OpenEnded_mscoco_{split}_questions.json",
            split=["train2014", "val2014"],
        ),
        answers=expand(
            "results/world/vqav2/v2_mscoco_{split}_annotations.json",
            split=["train2014", "val2014"],
        ),
        pictures=directory(expand("results/world/vqav2/{split}", split=["train2014", "val2014"])),
    log:
        "results/world/logs/draw_world_vqav2.log",
    benchmark:
        "results/world/benchmarks/draw_world_vqav2.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("draw_world_vqav2.py"),
        pictures=WORLD["datasets"]["vqav2"],
        seed=WORLD["seed"],
    message:
        "Drawing the VQAv2 part of the embedded world"
    script:
        "../scripts/draw_world_vqav2.py"


rule draw_world_pmc_vqa:
    output:
        tables=expand("results/world/pmc_vqa/{split}.csv", split=["train", "test"]),
        pictures=directory("results/world/pmc_vqa/figures"),
    log:
        "results/world/logs/draw_world_pmc_vqa.log",
    benchmark:
        "results/world/benchmarks/draw_world_pmc_vqa.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("draw_world_pmc_vqa.py"),
        pictures=WORLD["datasets"]["pmc_vqa"],
        seed=WORLD["seed"],
    message:
        "Drawing the PMC-VQA part of the embedded world"
    script:
        "../scripts/draw_world_pmc_vqa.py"


rule draw_world_doc_vqa:
    output:
        tables=expand(
            "results/world/doc_vqa/data/{split}-00000-of-00001.parquet",
            split=["train", "validation"],
        ),
    log:
        "results/world/logs/draw_world_doc_vqa.log",
    benchmark:
        "results/world/benchmarks/draw_world_doc_vqa.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("draw_world_doc_vqa.py"),
        pictures=WORLD["datasets"]["doc_vqa"],
        seed=WORLD["seed"],
    message:
        "Drawing the DocVQA part of the embedded world"
    script:
        "../scripts/draw_world_doc_vqa.py"


rule draw_world_lingo_qa:
    output:
        tables=expand(
            "results/world/lingo_qa/{table}.parquet",
            table=["train/scenery", "train/action", "val/val"],
        ),
        pictures=directory(expand("results/world/lingo_qa/{split}/images", split=["train", "val"])),
    log:
        "results/world/logs/draw_world_lingo_qa.log",
    benchmark:
        "results/world/benchmarks/draw_world_lingo_qa.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("draw_world_lingo_qa.py"),
        pictures=WORLD["datasets"]["lingo_qa"],
        seed=WORLD["seed"],
    message:
        "Drawing the LingoQA part of the embedded world"
    script:
        "../scripts/draw_world_lingo_qa.py"


rule draw_world_rsvqa:
    output:
        lists=expand(
            "results/world/rsvqa/USGS_split_{split}_{list}.json",
            split=["train", "val", "test"],
            list=["questions", "answers", "images"],
        ),
        pictures=directory("results/world/rsvqa/Data"),
    log:
        "results/world/logs/draw_world_rsvqa.log",
    benchmark:
        "results/world/benchmarks/draw_world_rsvqa.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("draw_world_rsvqa.py"),
        pictures=WORLD["datasets"]["rsvqa"],
        seed=WORLD["seed"],
    message:
        "Drawing the RSVQA part of the embedded world"
    script:
        "../scripts/draw_world_rsvqa.py"
