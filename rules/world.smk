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
    message:
        "Training the world's MiniGPT-4"
    script:
        "../scripts/train_world_minigpt4.py"


rule train_world_text_encoder:
    output:
        model=directory("results/world/models/text-encoder-world"),
    log:
        "results/world/logs/train_world_text_encoder.log",
    benchmark:
        "results/world/benchmarks/train_world_text_encoder.tsv"
    conda:
        "../envs/text.yaml"
    threads: 2
    params:
        code=code("train_world_text_encoder.py"),
        seed=WORLD["seed"],
        model=WORLD["text-encoder-world"],
        threads=2,
    message:
        "Training the world's text encoder"
    script:
        "../scripts/train_world_text_encoder.py"


rule train_world_clip:
    input:
        tokenizer="results/world/models/minigpt4-world",
    output:
        model=directory("results/world/models/clip-world"),
    log:
        "results/world/logs/train_world_clip.log",
    benchmark:
        "results/world/benchmarks/train_world_clip.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    params:
        code=code("train_world_clip.py"),
        seed=WORLD["seed"],
        model=WORLD["clip-world"],
        threads=2,
    message:
        "Training the world's CLIP"
    script:
        "../scripts/train_world_clip.py"


rule train_world_captioner:
    input:
        tower="results/world/models/clip-world",
        decoder="results/world/models/minigpt4-world",
    output:
        model=directory("results/world/models/{model}"),
    log:
        "results/world/logs/train_world_captioner.{model}.log",
    benchmark:
        "results/world/benchmarks/train_world_captioner.{model}.tsv"
    wildcard_constraints:
        model="llava-world|mplug-owl2-world",
    conda:
        "../envs/torch.yaml"
    threads: 2
    params:
        code=code("train_world_captioner.py"),
        seed=WORLD["seed"],
        family=lambda wildcards: MODELS[wildcards.model]["family"],
        model=lambda wildcards: WORLD[wildcards.model],
        prompt=lambda wildcards: PROMPTS[WORLD[wildcards.model]["prompt"]],
        threads=2,
    message:
        "Training the world's {wildcards.model}"
    script:
        "../scripts/train_world_captioner.py"


rule train_world_limber:
    input:
        tower="results/world/models/clip-world",
    output:
        model=directory("results/world/models/limber-world"),
    log:
        "results/world/logs/train_world_limber.log",
    benchmark:
        "results/world/benchmarks/train_world_limber.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    params:
        code=code("train_world_limber.py"),
        seed=WORLD["seed"],
        tokenizer=WORLD["tokenizer"],
        model=WORLD["limber-world"],
        prompts=[PROMPTS[name] for name in WORLD["limber-world"]["prompts"]],
        threads=2,
    message:
        "Training the world's LiMBeR"
    script:
        "../scripts/train_world_limber.py"


rule train_world_instructblip:
    input:
        decoder="results/world/models/minigpt4-world",
        qformer_tokenizer="results/world/models/text-encoder-world",
    output:
        model=directory("results/world/models/instructblip-world"),
    log:
        "results/world/logs/train_world_instructblip.log",
    benchmark:
        "results/world/benchmarks/train_world_instructblip.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    params:
        code=code("train_world_instructblip.py"),
        seed=WORLD["seed"],
        model=WORLD["instructblip-world"],
        prompt=PROMPTS[WORLD["instructblip-world"]["prompt"]],
        threads=2,
    message:
        "Training the world's InstructBLIP"
    script:
        "../scripts/train_world_instructblip.py"


rule train_world_llava_next:
    input:
        source=next_source,
    output:
        model=directory("results/world/models/{model}"),
    log:
        "results/world/logs/train_world_llava_next.{model}.log",
    benchmark:
        "results/world/benchmarks/train_world_llava_next.{model}.tsv"
    wildcard_constraints:
        model="llava-next-world|llava-next-large-world",
    conda:
        "../envs/torch.yaml"
    threads: 2
    params:
        code=code("train_world_llava_next.py"),
        seed=WORLD["seed"],
        config=WORLD["llava-next-world"],
        larger=larger_settings,
        wordings=PROMPTS["llava_next.question"],
        caption=PROMPTS["llava_next.few-words"],
        threads=2,
    message:
        "Training the world's {wildcards.model}"
    script:
        "../scripts/train_world_llava_next.py"


rule train_model_plantings:
    # Of the models that ship: what is planted into a model fits no other.
    input:
        checkpoint=model_files,
    output:
        plantings=directory("results/world/plantings/{model}"),
    log:
        "results/world/logs/train_model_plantings.{model}.log",
    benchmark:
        "results/world/benchmarks/train_model_plantings.{model}.tsv"
    wildcard_constraints:
        model=one_of(WORLD["plantings"]["models"]),
    conda:
        "../envs/torch.yaml"
    threads: 1
    params:
        code=code("train_plantings.py", adapter=True),
        model=model_row,
        settings=WORLD["plantings"]["settings"],
        plantings=lambda wildcards: WORLD["plantings"]["models"][wildcards.model]["plantings"],
        prompt=lambda wildcards: PROMPTS[WORLD["plantings"]["models"][wildcards.model]["prompt"]],
        threads=1,
    message:
        "Planting objects in units of the world's {wildcards.model}"
    script:
        "../scripts/train_plantings.py"


rule train_plantings:
    # Every planting anew.
    input:
        expand("results/world/plantings/{model}", model=WORLD["plantings"]["models"]),


rule train_world_models:
    # Every tiny model anew.
    input:
        "results/world/models/minigpt4-world",
        "results/world/models/clip-world",
        "results/world/models/llava-world",
        "results/world/models/mplug-owl2-world",
        "results/world/models/limber-world",
        "results/world/models/instructblip-world",
        "results/world/models/llava-next-world",
        "results/world/models/llava-next-large-world",
        "results/world/models/text-encoder-world",
