"""Share: the artifacts from which the figures can be drawn again, in one file.

In: every figure and table of the papers of `share.papers`, the neuron browser, and the workflow's
records of how they were made. Out: share/{run}.mmneurons.zip; scripts/restore.py is the way back.
"""


rule share:
    input:
        figures=shared(PAPER_FIGURES.get),
        pages=shared_pages(),
    output:
        bundle=f"<results>/share/{config['run']}.mmneurons.zip",
        digest=f"<results>/share/{config['run']}.mmneurons.zip.sha256",
    log:
        "<logs>/share.log",
    benchmark:
        "<benchmarks>/share.tsv"
    # The records of all jobs are where the workflow was started.
    localrule: True
    conda:
        "../envs/share.yaml"
    params:
        code=code("share_run.py"),
        config=dict(config),
        papers=lookup(within=config, dpath="share/papers"),
        pictures=shared(lambda paper: SHARED_PICTURES[paper]()),
        models=[
            {"name": name, **{key: MODELS[name][key] for key in ("label", "revision")}}
            for name in shared(PAPER_MODELS.get)
        ],
        version=CITATION["version"],
        licence=CITATION["license"],
        engine=version("snakemake"),
    message:
        "Packing what the figures of {output.bundle} were drawn from"
    script:
        "../scripts/share_run.py"
