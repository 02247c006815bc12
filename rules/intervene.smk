"""Intervene: captions while chosen neurons carry noise, or while their output rows are changed.

In: neuron tables, recording. Out: {dataset}/{model}/interventions/noise.{site}.{part}.parquet,
weight_noise.parquet and edits.parquet; domains/{model}/interventions/answers.parquet and
deviation.parquet.
"""


# They only put small tables together, and would wait for longer than they work.
localrules:
    merge_noise,
    merge_weight_noise,
    merge_edits,
    merge_replies,
    merge_ablation,


rule caption_under_noise:
    input:
        checkpoint=model_files,
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        record="<results>/{dataset}/{model}/record/two_stage.safetensors",
        neurons=neuron_tables,
    output:
        noise=temp("<results>/{dataset}/{model}/interventions/noise.{site}.{part}/{shard}.parquet"),
    log:
        "<logs>/{dataset}/{model}/caption_under_noise.{site}.{part}.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/caption_under_noise.{site}.{part}.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("caption_under_noise.py", adapter=True),
        model=model_row,
        compute=compute("noise_batch_size"),
        prompt=PROMPTS[TWO_STAGE["prompt"]],
        max_new_tokens=lookup(within=config, dpath="two_stage/max_new_tokens"),
        root=dataset_root,
        methods=two_stage_part,
        noise=lookup(within=config, dpath="two_stage/noise"),
        noise_scale=model_noise,
        control_draws=lookup(within=config, dpath="two_stage/control/draws"),
        other_pictures=lookup(within=config, dpath="two_stage/other_pictures"),
        seed=lookup(within=config, dpath="two_stage/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Captioning under noise: {wildcards.part}, {wildcards.site}, shard {wildcards.shard}"
    script:
        "../scripts/caption_under_noise.py"


rule merge_noise:
    input:
        shards_of("<results>/{dataset}/{model}/interventions/noise.{site}.{part}/{shard}.parquet"),
    output:
        "<results>/{dataset}/{model}/interventions/noise.{site}.{part}.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_noise.{site}.{part}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_noise.{site}.{part}.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_tables.py"),
        sort=["method", "variant", "seed", "sample_id", "picture_id", "level", "draw"],
    message:
        "Putting the captions under noise together: {wildcards.part}, {wildcards.site}"
    script:
        "../scripts/merge_tables.py"


rule caption_under_weight_noise:
    input:
        checkpoint=model_files,
        pictures="<results>/{dataset}/pan/pictures.parquet",
        captions="<results>/{dataset}/{model}/captions/pan.parquet",
        concepts="<results>/{dataset}/{model}/captions/concepts.parquet",
        neurons=f"<results>/{{dataset}}/{{model}}/neurons/contribution.{PAN['sites'][0]}.plain.parquet",
    output:
        weight_noise=temp("<results>/{dataset}/{model}/interventions/weight_noise/{shard}.parquet"),
    log:
        "<logs>/{dataset}/{model}/caption_under_weight_noise.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/caption_under_weight_noise.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("caption_under_weight_noise.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=pan_prompt,
        max_new_tokens=lookup(within=config, dpath="pan/max_new_tokens"),
        root=dataset_root,
        noise=lookup(within=config, dpath="pan/weight_noise"),
        scales=model_constant("weight_noise"),
        seed=lookup(within=config, dpath="pan/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Captioning while output rows of {wildcards.model} carry noise, shard {wildcards.shard}"
    script:
        "../scripts/caption_under_weight_noise.py"


rule merge_weight_noise:
    input:
        shards_of("<results>/{dataset}/{model}/interventions/weight_noise/{shard}.parquet"),
    output:
        "<results>/{dataset}/{model}/interventions/weight_noise.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_weight_noise.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_weight_noise.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_tables.py"),
        sort=["method", "sample_id", "seed", "unit", "level", "draw"],
    message:
        "Putting the captions under noise on weights together"
    script:
        "../scripts/merge_tables.py"


rule edit_concepts:
    input:
        checkpoint=model_files,
        pictures="<results>/{dataset}/pan/pictures.parquet",
        captions="<results>/{dataset}/{model}/captions/pan.parquet",
        concepts="<results>/{dataset}/{model}/captions/concepts.parquet",
        neurons=f"<results>/{{dataset}}/{{model}}/neurons/contribution.{PAN['edit']['site']}.plain.parquet",
    output:
        edits=temp("<results>/{dataset}/{model}/interventions/edits/{shard}.parquet"),
        exclusions=temp("<results>/{dataset}/{model}/interventions/edits/{shard}.left_out.parquet"),
    log:
        "<logs>/{dataset}/{model}/edit_concepts.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/edit_concepts.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("edit_concepts.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=pan_prompt,
        max_new_tokens=lookup(within=config, dpath="pan/max_new_tokens"),
        root=dataset_root,
        edit=lookup(within=config, dpath="pan/edit"),
        algorithm=model_constant("edit"),
        site=lookup(within=config, dpath="pan/edit/site"),
        seed=lookup(within=config, dpath="pan/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Editing concepts of {wildcards.model}, shard {wildcards.shard}"
    script:
        "../scripts/edit_concepts.py"


rule merge_edits:
    input:
        shards_of("<results>/{dataset}/{model}/interventions/edits/{shard}.parquet"),
    output:
        "<results>/{dataset}/{model}/interventions/edits.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_edits.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_edits.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_tables.py"),
        sort=["edit_id", "kind", "method", "seed", "role", "picture_id"],
    message:
        "Putting the edits together"
    script:
        "../scripts/merge_tables.py"


rule reply_to_questions:
    input:
        checkpoint=model_files,
        questions="<domains>/questions.parquet",
        neurons=f"<domains>/{{model}}/neurons/dape.act.{DAPE_VARIANTS[0]}.parquet",
    output:
        answers=temp("<domains>/{model}/interventions/shards/{shard}/answers.parquet"),
        deviation=temp("<domains>/{model}/interventions/shards/{shard}/deviation.parquet"),
    log:
        "<logs>/domains/{model}/reply_to_questions.{shard}.log",
    benchmark:
        "<benchmarks>/domains/{model}/reply_to_questions.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("reply_to_questions.py", adapter=True),
        model=model_row,
        compute=reply_compute(),
        prompt=question_wording,
        roots=question_roots(),
        roles=question_roles(),
        evaluate={
            key: MMNEURON["evaluate"][key] for key in ("masks", "max_new_tokens", "control_seeds")
        },
        decoding=decoding(),
        seed=lookup(within=config, dpath="mmneuron/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Replying with neurons of {wildcards.model} deactivated, shard {wildcards.shard}"
    script:
        "../scripts/reply_to_questions.py"


rule merge_replies:
    input:
        shards_of("<domains>/{model}/interventions/shards/{shard}/{table}.parquet"),
    output:
        "<domains>/{model}/interventions/{table}.parquet",
    log:
        "<logs>/domains/{model}/merge_replies.{table}.log",
    benchmark:
        "<benchmarks>/domains/{model}/merge_replies.{table}.tsv"
    wildcard_constraints:
        table="answers|deviation",
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_tables.py"),
        sort=["group", "sample_id", "condition", "control", "seed"],
    message:
        "Putting the {wildcards.table} of {wildcards.model} together"
    script:
        "../scripts/merge_tables.py"


rule ablate_units:
    input:
        checkpoint=model_files,
        pictures="<results>/{dataset}/schwettmann/pictures.parquet",
        captions="<results>/{dataset}/{model}/schwettmann/captions.parquet",
        units="<results>/{dataset}/{model}/schwettmann/units.parquet",
    output:
        ablation=temp("<results>/{dataset}/{model}/schwettmann/shards/{shard}/ablation.parquet"),
        exclusions=temp("<results>/{dataset}/{model}/schwettmann/shards/{shard}/left_out.parquet"),
    log:
        "<logs>/{dataset}/{model}/ablate_units.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/ablate_units.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("ablate_units.py", adapter=True),
        model=model_row,
        compute=compute("batch_size", "noise_batch_size"),
        prompt=PROMPTS[SCHWETTMANN["prompt"]],
        max_new_tokens=lookup(within=config, dpath="schwettmann/max_new_tokens"),
        root=dataset_root,
        ablation=lookup(within=config, dpath="schwettmann/ablation"),
        numbers=model_constant("ablation"),
        seed=lookup(within=config, dpath="schwettmann/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Captioning while the best units of {wildcards.model} are zero, shard {wildcards.shard}"
    script:
        "../scripts/ablate_units.py"


rule merge_ablation:
    input:
        shards_of("<results>/{dataset}/{model}/schwettmann/shards/{shard}/{table}.parquet"),
    output:
        "<results>/{dataset}/{model}/schwettmann/{table}.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_ablation.{table}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_ablation.{table}.tsv"
    wildcard_constraints:
        table="ablation|left_out",
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_tables.py"),
        sort=lookup(
            within={
                "ablation": ["picture_id", "condition", "seed", "k"],
                "left_out": ["stage", "sample_id", "group", "reason", "detail"],
            },
            dpath="{table}",
        ),
    message:
        "Putting the {wildcards.table} of {wildcards.model} together"
    script:
        "../scripts/merge_tables.py"
