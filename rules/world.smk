"""World: training of the tiny models that ship in resources/models.

In: resources/world.yaml. Out: results/world/models/{model}, directories like those that ship.
A retrained model is used once it is copied over the one in resources/models; nothing is
overwritten by itself, since every result of the default run depends on these checkpoints.
"""


rule train_world_minigpt4:
    output:
        model=directory("results/world/models/minigpt4-world"),
    log:
        "results/world/logs/train_world_minigpt4.log",
    benchmark:
        "results/world/benchmarks/train_world_minigpt4.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    params:
        code=code("train_world_minigpt4.py"),
        seed=WORLD["seed"],
        tokenizer=WORLD["tokenizer"],
        model=WORLD["minigpt4-world"],
        prompt=PROMPTS[WORLD["minigpt4-world"]["prompt"]],
        threads=2,
    script:
        "../scripts/train_world_minigpt4.py"


rule train_world_models:
    # Every tiny model anew.
    input:
        "results/world/models/minigpt4-world",
