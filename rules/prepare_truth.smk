"""Prepare, for the truth benchmark: pictures with and without the planted objects.

Out: truth/pictures.parquet and truth/pictures/. docs/truth.md explains the benchmark.
"""


rule draw_truth_pictures:
    output:
        table="<results>/truth/pictures.parquet",
        pictures=directory("<results>/truth/pictures"),
    log:
        "<logs>/truth/draw_truth_pictures.log",
    benchmark:
        "<benchmarks>/truth/draw_truth_pictures.tsv"
    conda:
        "../envs/torch.yaml"
    params:
        code=code("draw_truth_pictures.py"),
        concepts=TRUTH_PICTURES,
        seed=lookup(within=config, dpath="truth/seed"),
    message:
        "Drawing pictures with and without the planted objects"
    script:
        "../scripts/draw_truth_pictures.py"
