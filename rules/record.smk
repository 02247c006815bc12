"""Record: the only rules that look inside a model.

In: valid.parquet, pictures. Out: {dataset}/{model}/record/two_stage.safetensors, tokens.parquet
and gradcam.safetensors. For Pan et al. 2024 captions, concepts and the best neurons come from the
same pass: {dataset}/{model}/{captions,record,neurons}/...; models/{model}/neuron_tokens.parquet.
For Schwettmann et al. 2023 {dataset}/{model}/schwettmann/... and record/attribution/... out.
For Huo et al. 2024 domains/questions.parquet in; domains/{model}/record/... out.
"""


# They only put small tables together, and would wait for longer than they work.
localrules:
    merge_domain_records,


rule record_two_stage:
    input:
        checkpoint=model_files,
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        inpainted="<results>/{dataset}/two_stage/inpainted",
    output:
        tensors=temp("<results>/{dataset}/{model}/record/shards/{shard}.safetensors"),
        tokens=temp("<results>/{dataset}/{model}/record/shards/{shard}.parquet"),
    log:
        "<logs>/{dataset}/{model}/record_two_stage.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/record_two_stage.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_two_stage.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=PROMPTS[TWO_STAGE["prompt"]],
        root=dataset_root,
        sites=lookup(within=config, dpath="two_stage/sites"),
        record=lookup(within=config, dpath="two_stage/record"),
        map_units=lookup(within=config, dpath="two_stage/map_units"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Recording activations and gradients, shard {wildcards.shard}"
    script:
        "../scripts/record_two_stage.py"


rule merge_records:
    input:
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
        tensors=shards_of("<results>/{dataset}/{model}/record/shards/{shard}.safetensors"),
        tokens=shards_of("<results>/{dataset}/{model}/record/shards/{shard}.parquet"),
    output:
        tensors="<results>/{dataset}/{model}/record/two_stage.safetensors",
        tokens="<results>/{dataset}/{model}/record/tokens.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_records.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_records.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_records.py"),
    message:
        "Putting the recordings together"
    script:
        "../scripts/merge_records.py"


rule record_gradcam:
    input:
        checkpoint=model_files,
        valid="<results>/{dataset}/{model}/captions/valid.parquet",
    output:
        maps="<results>/{dataset}/{model}/record/gradcam.safetensors",
    log:
        "<logs>/{dataset}/{model}/record_gradcam.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/record_gradcam.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_gradcam.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=PROMPTS[TWO_STAGE["prompt"]],
        root=dataset_root,
        pictures=lookup(within=config, dpath="two_stage/gradcam_pictures"),
    message:
        "Mapping the target words by GradCAM"
    script:
        "../scripts/record_gradcam.py"


rule record_concepts:
    input:
        checkpoint=model_files,
        pictures="<results>/{dataset}/pan/pictures.parquet",
    output:
        folder=temp(directory("<results>/{dataset}/{model}/record/pan_shards/{shard}")),
    log:
        "<logs>/{dataset}/{model}/record_concepts.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/record_concepts.{shard}.tsv"
    conda:
        branch(
            lookup(within=config, dpath="pan/tagger"),
            cases={"textblob": "../envs/torch.yaml", "stanza": "../envs/stanza.yaml"},
        )
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_concepts.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=pan_prompt,
        max_new_tokens=lookup(within=config, dpath="pan/max_new_tokens"),
        root=dataset_root,
        sites=lookup(within=config, dpath="pan/sites"),
        top_k=model_constant("top_k"),
        tagger=lookup(within=config, dpath="pan/tagger"),
        stanza_models=lookup(within=config, dpath="pan/stanza_models"),
        seed=lookup(within=config, dpath="pan/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Captioning with {wildcards.model} and recording its neurons, shard {wildcards.shard}"
    script:
        "../scripts/record_concepts.py"


rule merge_concepts:
    input:
        shards=shards_of("<results>/{dataset}/{model}/record/pan_shards/{shard}"),
    output:
        captions="<results>/{dataset}/{model}/captions/pan.parquet",
        concepts="<results>/{dataset}/{model}/captions/concepts.parquet",
        exclusions="<results>/{dataset}/{model}/captions/pan_exclusions.parquet",
        neurons=pan_neurons("plain") + pan_neurons("shuffled"),
        maps="<results>/{dataset}/{model}/record/pan_maps.safetensors",
        specificity="<results>/{dataset}/{model}/record/specificity.parquet",
        cross_scores="<results>/{dataset}/{model}/record/cross_scores.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_concepts.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_concepts.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_concepts.py"),
    message:
        "Putting the neurons of {wildcards.model} together"
    script:
        "../scripts/merge_concepts.py"


rule decode_neurons:
    input:
        checkpoint=model_files,
    output:
        tokens="<results>/models/{model}/neuron_tokens.parquet",
    log:
        "<logs>/models/{model}/decode_neurons.log",
    benchmark:
        "<benchmarks>/models/{model}/decode_neurons.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("decode_neurons.py", adapter=True),
        model=model_row,
        compute=compute(),
    message:
        "Decoding every neuron of {wildcards.model}"
    script:
        "../scripts/decode_neurons.py"


rule record_domains:
    input:
        checkpoint=model_files,
        questions="<domains>/questions.parquet",
    output:
        counts=temp("<domains>/{model}/record/count_shards/{shard}.parquet"),
        embeddings=temp("<domains>/{model}/record/shards/{shard}/embeddings.parquet"),
        entropy=temp("<domains>/{model}/record/shards/{shard}/entropy.parquet"),
        lens=temp("<domains>/{model}/record/shards/{shard}/lens.parquet"),
        exclusions=temp("<domains>/{model}/record/shards/{shard}/exclusions.parquet"),
    log:
        "<logs>/domains/{model}/record_domains.{shard}.log",
    benchmark:
        "<benchmarks>/domains/{model}/record_domains.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_domains.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=question_prompts,
        wording=lookup(within=config, dpath="mmneuron/evaluate/prompt"),
        roots=question_roots(),
        roles=question_roles(),
        tokens=lookup(within=config, dpath="mmneuron/tokens"),
        record=lookup(within=config, dpath="mmneuron/record"),
        embeddings=lookup(within=config, dpath="mmneuron/embeddings"),
        lens={key: MMNEURON["lens"][key] for key in ("questions", "top")},
        cases=lens_cases,
        shards=lookup(within=config, dpath="shards"),
    message:
        "Counting active neurons of {wildcards.model}, shard {wildcards.shard}"
    script:
        "../scripts/record_domains.py"


rule merge_domain_records:
    input:
        shards_of("<domains>/{model}/record/shards/{shard}/{table}.parquet"),
    output:
        "<domains>/{model}/record/{table}.parquet",
    log:
        "<logs>/domains/{model}/merge_domain_records.{table}.log",
    benchmark:
        "<benchmarks>/domains/{model}/merge_domain_records.{table}.tsv"
    wildcard_constraints:
        table="embeddings|entropy|lens|exclusions",
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_tables.py"),
        sort=lookup(
            within={
                "embeddings": ["group", "sample_id"],
                "entropy": ["group", "sample_id", "layer", "kind"],
                "lens": ["item", "position", "layer", "rank"],
                "exclusions": ["group", "sample_id", "reason", "detail"],
            },
            dpath="{table}",
        ),
    message:
        "Putting the {wildcards.table} of {wildcards.model} together"
    script:
        "../scripts/merge_tables.py"


rule record_attribution:
    input:
        checkpoint=model_files,
        pictures="<results>/{dataset}/schwettmann/pictures.parquet",
    output:
        folder=temp(directory("<results>/{dataset}/{model}/record/attribution_shards/{shard}")),
    log:
        "<logs>/{dataset}/{model}/record_attribution.{shard}.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/record_attribution.{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lookup(within=config, dpath="compute/threads")
    resources:
        gpu=1,
        mem_mb=model_memory,
        runtime=model_runtime,
    params:
        code=code("record_attribution.py", adapter=True),
        model=model_row,
        compute=compute("batch_size"),
        prompt=PROMPTS[SCHWETTMANN["prompt"]],
        max_new_tokens=lookup(within=config, dpath="schwettmann/max_new_tokens"),
        root=dataset_root,
        pairs=lookup(within=config, dpath="schwettmann/pairs"),
        map_units=lookup(within=config, dpath="schwettmann/map_units"),
        soft_prompts=lookup(within=config, dpath="schwettmann/soft_prompts"),
        numbers=model_constant("ablation"),
        seed=lookup(within=config, dpath="schwettmann/seed"),
        shards=lookup(within=config, dpath="shards"),
    message:
        "Captioning with {wildcards.model} and attributing the nouns, shard {wildcards.shard}"
    script:
        "../scripts/record_attribution.py"


rule merge_attribution:
    input:
        shards=shards_of("<results>/{dataset}/{model}/record/attribution_shards/{shard}"),
        pictures="<results>/{dataset}/schwettmann/pictures.parquet",
    output:
        captions="<results>/{dataset}/{model}/schwettmann/captions.parquet",
        prompt_tokens="<results>/{dataset}/{model}/schwettmann/prompt_tokens.parquet",
        maps="<results>/{dataset}/{model}/schwettmann/maps.safetensors",
        map_rows="<results>/{dataset}/{model}/schwettmann/maps.parquet",
        pairs="<results>/{dataset}/{model}/record/attribution/pairs.parquet",
        ranking="<results>/{dataset}/{model}/record/attribution/ranking.parquet",
        means="<results>/{dataset}/{model}/record/attribution/means.safetensors",
        exclusions="<results>/{dataset}/{model}/record/attribution/exclusions.parquet",
    log:
        "<logs>/{dataset}/{model}/merge_attribution.log",
    benchmark:
        "<benchmarks>/{dataset}/{model}/merge_attribution.tsv"
    conda:
        "../envs/data.yaml"
    params:
        code=code("merge_attribution.py"),
    message:
        "Putting the attributions of {wildcards.model} together"
    script:
        "../scripts/merge_attribution.py"
