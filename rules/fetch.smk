"""Fetch: datasets as published.

In: resources/world.yaml. Out: results/world/{dataset}/... in the published file formats.
"""


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
