"""Evaluate, for the truth benchmark: how many of the known units each method finds.

In: truth/{model}/record/*.parquet. Out: truth/{model}/metrics/{scores,summary,curves}.csv.
"""


rule evaluate_truth:
    input:
        standings="<results>/truth/{model}/record/standings.parquet",
        plantings="<results>/truth/{model}/record/plantings.parquet",
    output:
        scores="<results>/truth/{model}/metrics/scores.csv",
        summary="<results>/truth/{model}/metrics/summary.csv",
        curves="<results>/truth/{model}/metrics/curves.csv",
    log:
        "<logs>/truth/{model}/evaluate_truth.log",
    benchmark:
        "<benchmarks>/truth/{model}/evaluate_truth.tsv"
    wildcard_constraints:
        model=one_of(PLANTINGS),
    conda:
        "../envs/data.yaml"
    params:
        code=code("evaluate_truth.py"),
        seed=lookup(within=config, dpath="truth/seed"),
    message:
        "Measuring how many planted units of {wildcards.model} each method finds"
    script:
        "../scripts/evaluate_truth.py"
