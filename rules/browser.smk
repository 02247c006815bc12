"""Browser: the neurons of a run as pages that open from disk, and stand in the report.

In: neuron tables, decoded neurons, recordings, effects and exclusions of the papers of
`browser.papers`. Out: browser/, whose index.html is the first page. Holds no model.
"""


include: "browser_items.smk"


rule browser:
    input:
        unpack(browser_inputs),
    output:
        report(
            directory("<results>/browser"),
            htmlindex="index.html",
            caption="../resources/captions/browser.rst",
            category="Neuron browser",
            labels={"item": "Neurons of every method and model"},
        ),
    log:
        "<logs>/browser.log",
    benchmark:
        "<benchmarks>/browser.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("write_browser.py"),
        static=browser_static(),
        run=lookup(within=config, dpath="run"),
        parts=browser_parts(),
        models=BROWSED_MODELS,
        notes=browser_notes(),
        settings={key: BROWSER[key] for key in ("neurons", "pictures", "side", "megabytes")},
    message:
        "Writing the neuron browser"
    script:
        "../scripts/write_browser.py"
