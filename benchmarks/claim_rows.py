"""The claims themselves: the papers' words and figures, what was run here, and the run that would decide."""

from __future__ import annotations

from claims import FASTER, NO_WORSE, Claim
from everything import AVX2, TWO_THREADS, command
from findings import (
    BASE_RECORDS,
    FINETUNE_STEPS,
    attention_cka,
    best_depths,
    chosen_depths,
    cuts_with_mean,
    depth_savings,
    each_task,
    embedded,
    family_beside_layers,
    fastest_rivals,
    fit_at_base_size,
    fit_gaps,
    fit_means,
    from_scratch,
    full_disks,
    gamma_slants,
    half_width,
    heads_kept,
    int8_losses,
    int8_times,
    kills,
    norms,
    one_choice,
    per_token,
    probes,
    repaired,
    same_answers,
    searched,
    slants,
    stock_exports,
    text_cut,
    text_slants,
    training_steps,
    wide,
)
from planned_rows import BASE_SIZE
from results import HALF, TASKS, THIRD, cut, has_record, kept, kept_gap, read_record, score, several

CUTS, FAMILIES = ("cuts_sst2", "cuts_cola", "cuts_mrpc"), ("family_sst2", "family_cola", "family_mrpc")
KEPT, INT8 = ("undivided_sst2", "undivided_cola", "undivided_mrpc"), ("int8_sst2", "int8_cola", "int8_mrpc")
UNREAD = (
    "The networks read [CLS] through a pooler that was never trained, which in this model's first layers hardly "
    "varies; the depth was chosen by the mean over tokens."
)
ANY_LAYERS = "with layers of any choice and at a rate of their own in its plan"
TOKENS = read_record("undivided_scratch")["networks"][0]["tokens"]


def shares(variant: str, budget: str) -> str:
    """Return the range of what cuts take of their teachers' float32 latency, over tasks and seeds."""
    return several([share for task in TASKS for share in cut(task, variant, budget)["latency_shares"]])


DYNABERT = (
    Claim(
        "A family's whole network keeps its score",
        'DynaBERT "at its largest size has comparable performance as BERT-base": CoLA 59.7 for 58.1, MRPC 86.3 for '
        "87.7, SST-2 93.2 for 92.9",
        "`w1.0-d1.0` of a family less its teacher",
        FAMILIES,
        each_task(wide),
        NO_WORSE,
        decides=command("family"),
    ),
    Claim(
        "Half the width costs little",
        "width 0.5 at full depth: CoLA 58.4 for the teacher's 58.1, MRPC 84.8 for 87.7, SST-2 93.3 for 92.9",
        "`w0.5-d1.0` less the teacher",
        FAMILIES,
        each_task(half_width),
        NO_WORSE,
        decides=command("family"),
    ),
    Claim(
        "Sub-networks are as good as networks made alone",
        '"at smaller widths and depths consistently outperforms existing BERT compression methods"',
        "the family's best on select no slower than schuBERT's cut to 35 %, less three layers, a little slower or "
        "faster; 600 steps (MRPC 312)",
        CUTS[1:],
        family_beside_layers,
        flaw=one_choice(3),
        decides=command("family"),
    ),
    Claim(
        "Rewiring helps",
        '"Network rewiring is also used to keep the more important attention heads and neurons shared by more '
        'sub-networks"; the size of its effect is not known to us',
        decides=command("recipes"),
    ),
    Claim(
        "Two stages and the width teacher help",
        "width first, then width and depth, imitating the network of the same width; the authors later said that a "
        "teacher of full width does about as well",
        decides=f"{command('recipes')} (stages cannot be switched alone: whole recipes are compared)",
    ),
    Claim(
        "Augmentation helps",
        "10 to 30 variants of each text by task",
        decides=command("recipes"),
    ),
)

SCHUBERT = (
    Claim(
        "Learned sizes beat three layers at equal parameters, by masked LM",
        '"6.6% higher average accuracy on GLUE and SQuAD datasets as compared to BERT with three encoder layers while '
        'having the same number of parameters": 81.7 for 75.1',
        "gates and healing by masked LM on wikitext-2, half of the encoder, then SST-2; one seed, no interval",
        ("text_cuts",),
        text_cut,
        decides=command("text_cuts"),
    ),
    Claim(
        "On the mean of three tasks distilled cuts beat three layers at equal parameters",
        "learned sizes, not by the paper's objective; the encoder's parameters are equal, latency is not: cuts take "
        f"{shares('fakv', HALF)} of the teacher's, three layers {shares('layers', HALF)}",
        "`--dims f,a,k,v`, half of the encoder, less three layers distilled with hidden states in as many steps; "
        "MRPC's teachers are under-trained",
        (*CUTS, "cuts_mean"),
        cuts_with_mean(HALF),
        flaw=one_choice(3),
        decides=f"{command('cuts')}, {ANY_LAYERS}",
    ),
    Claim(
        "On the mean of three tasks distilled cuts beat two layers at equal parameters",
        f"as above; the cuts take {shares('fakv', THIRD)}, two layers {shares('layers', THIRD)}",
        "35 % of the encoder, less two layers; as weak",
        (*CUTS, "cuts_mean"),
        cuts_with_mean(THIRD),
        flaw=one_choice(2),
        decides=f"{command('cuts')}, {ANY_LAYERS}",
    ),
    Claim(
        "Which dimension goes first",
        "hidden units alone are best from 77M parameters down",
        decides=command("dims"),
    ),
    Claim(
        "Heads alone are the worst to cut",
        "at 99M 83.1 on average, the other ways 83.7 to 84.1",
        decides=command("dims"),
    ),
    Claim(
        "Feed-forwards slant: the lower layers give up more, by our price on tasks",
        "99M: from 2022 neurons in the first layer to 2974 in the last",
        "neurons of cuts on tasks, by distillation and our price; rank correlation with the layer",
        CUTS,
        slants(CUTS),
    ),
    Claim(
        "The same by L1 and by masked LM",
        "as above",
        "half of the encoder on SST-2 and CoLA by the price, one seed; cuts on plain text, one seed",
        ("schubert_gamma", "text_cuts"),
        lambda: [*gamma_slants(), *text_slants()],
        decides=command("text_cuts"),
    ),
    Claim(
        "Heads are hardly pruned, by our price on tasks",
        "143 of 144 heads stay at 99M, 142 at 88M",
        "heads of the cuts to half of the encoder; as in the paper where at least 70 of 72 stay",
        CUTS,
        heads_kept,
    ),
)

UNDIVIDED = (
    Claim(
        "Fewer feed-forwards from scratch lose little",
        '"reducing the number of intermediate layers and modifying the architecture for BERT-BASE results in minimal '
        'loss in fine-tuning accuracy"; no figures are public',
        f"12 layers of hidden size 128, {TOKENS / 1e6:.1f} million tokens of wikitext-2, then SST-2; "
        "less the whole network, one seed",
        ("undivided_scratch",),
        from_scratch,
        NO_WORSE,
        decides=command("undivided_scratch"),
    ),
    Claim(
        "Half of the feed-forwards, cut and healed, lose little",
        "ours, not the paper's: three of six feed-forwards, chosen by importance",
        "200 steps of healing, less the teacher",
        KEPT,
        each_task(kept_gap, "importance-3", "teacher"),
        NO_WORSE,
        decides=command("undivided"),
    ),
    Claim(
        "Half of the feed-forwards, cut and healed, beat four whole layers",
        "ours; equal multiply-adds and parameters",
        "less four layers distilled in the same 200 steps",
        KEPT,
        each_task(kept_gap, "importance-3", "layers"),
        flaw=f"{one_choice(4)} And 200 steps are too few for them: three layers with 600 steps have "
        f"{score(cut('sst2', 'layers', HALF)['scores'])} on SST-2, these three feed-forwards "
        f"{score(kept('sst2', 'importance-3')['scores'])}.",
        decides=f"{command('undivided')}, {ANY_LAYERS}",
    ),
    Claim(
        "Attention hardly changes, by CKA",
        '"removing intermediate layers has little impact on the learned self-attention representations" (first '
        "version)",
        "CKA of the attention sites, teacher and three kept, layers 1 to 6; one seed, no control",
        ("analysis_sst2", "analysis_cola"),
        attention_cka,
        decides=f"{command('representations')} (with both controls)",
    ),
    Claim(
        "Probes show little impact",
        '"probing linear classifiers to gain insight ... and justify that removal of intermediate layers has little '
        'impact on the fine-tuned accuracy"',
        "probes on [CLS] after each layer, teacher and three kept; one seed, no control",
        ("analysis_sst2", "analysis_cola"),
        probes,
        decides="the same",
    ),
)

DEPTH = (
    Claim(
        "Fewer layers beat the full network",
        '"there truly exist smaller sub-networks performing better than the full model", on 8 binary tasks',
        "the best depth on dev itself, which flatters it, less the full model",
        ("depth",),
        best_depths,
        flaw=f"{UNREAD} These weights have seen QQP's text, and SQuAD's, which QNLI is made of.",
        decides=command("depth"),
    ),
    Claim(
        "The number of layers can be chosen before fine-tuning",
        '"a simple method to shrink BERT appropriately before fine-tuning ... with little even no accuracy loss"',
        "the probe's depth less the full model, where it kept fewer than six layers",
        ("depth",),
        chosen_depths,
        NO_WORSE,
        flaw=f"{UNREAD} The paper's own criterion is not known to us.",
        decides=command("depth"),
    ),
    Claim(
        "Fewer layers save time and memory",
        "78.1 % of the time and 31.7 % of the memory, on average",
        "the depths above; the paper's model has 12 layers, this one 6",
        ("depth",),
        depth_savings,
        decides="`cutbert sweep benchmarks/plans/paper_depth.toml --out runs/depth-paper --set 'data.data_dir=glue'`",
    ),
)

OURS = (
    Claim(
        "`fit` beats plain layers at equal int8 latency",
        "whole layers chosen and trained by the same code for the same time",
        "`fit` less `fit --kinds layers` on {tasks}, one core",
        ("fit",),
        fit_gaps("layers"),
        decides=f"fresh tasks, {command('fit_more')}",
        is_of_fit=True,
    ),
    Claim(
        "On the mean of three tasks `fit` beats plain layers at equal int8 latency",
        "the same runs",
        "as above",
        ("fit",),
        fit_means("layers"),
        decides=f"fresh tasks, {command('fit_more')}",
        is_of_fit=True,
    ),
    Claim(
        "`fit` loses nothing to the uncut model in int8",
        "under the same limit",
        "`fit` less the teacher in int8",
        ("fit",),
        fit_gaps("uncut"),
        NO_WORSE,
        decides=f"fresh tasks, {command('fit_more')}",
        is_of_fit=True,
    ),
    Claim(
        "`fit` beats plain layers on tasks it was not developed on",
        "the same on fresh tasks",
        "`fit` less `fit --kinds layers` on {tasks}, one core",
        ("fit_more",),
        fit_gaps("layers", "fit_more"),
        decides=command("fit_more"),
        is_of_fit=True,
    ),
    Claim(
        "On the mean of tasks it was not developed on `fit` beats plain layers",
        "the same runs",
        "as above",
        ("fit_more",),
        fit_means("layers", "fit_more"),
        decides=command("fit_more"),
        is_of_fit=True,
    ),
    Claim(
        "`fit` beats plain layers under other limits too",
        "a half and an eighth of the latency, in one run; plain layers where at least one keeps the limit",
        "`fit` less `fit --kinds layers` on {tasks}, one core",
        ("fit_limits",),
        fit_gaps("layers", "fit_limits"),
        decides=f"fresh tasks, {command('fit_limits')}",
        is_of_fit=True,
    ),
    Claim(
        "`fit` loses nothing to the uncut model under other limits",
        "the same runs",
        "`fit` less the teacher in int8",
        ("fit_limits",),
        fit_gaps("uncut", "fit_limits"),
        NO_WORSE,
        decides=f"fresh tasks, {command('fit_limits')}",
        is_of_fit=True,
    ),
    Claim(
        BASE_SIZE,
        "all-mpnet-base-v2, the papers' size; `fit` may cut all-MiniLM-L6-v2 too",
        "`fit` less `fit --kinds layers`, one core; three records of other versions and times, whose spread is what "
        "they show",
        BASE_RECORDS,
        fit_at_base_size,
        decides=f"fresh tasks, {command('fit_base_more')}",
        is_of_fit=True,
    ),
    Claim(
        "schuBERT's cuts are better by our price than by L1",
        "each with its recipe, at equal parameters",
        decides=command("dims"),
    ),
    Claim(
        "An embedding model that `fit` cuts is better than plain layers",
        "at equal int8 latency, no labels",
        "`fit` less `fit --kinds layers` of all-MiniLM: NDCG@10 of SQuAD's questions, and Spearman on STS-B; `fit` "
        "stayed further below its limit",
        ("embedding",),
        embedded,
        decides=f"{command('embedding')}, with `--seeds 0,1,2`",
    ),
    Claim(
        "A tagger or a reader of half the latency loses at most a point",
        "of F1; names and numbers of sentences, tagged by a rule, and SQuAD",
        "the int8 file that `fit` took less the uncut one, and the share of its latency that it takes",
        ("per_token",),
        per_token,
        NO_WORSE,
        decides=command("per_token"),
    ),
    Claim(
        "`predict` of the exported file answers as `measure` scores it",
        "a tagger and a reader in int8, one text at a time",
        "F1 of the answers that `predict` wrote, and what `measure` says",
        ("per_token",),
        same_answers,
        decides=command("per_token"),
    ),
    Claim(
        "int8 loses nothing, cut or not",
        "no more than a point",
        "int8 less float32 of the same network",
        INT8,
        int8_losses,
        NO_WORSE,
        decides=command("fit_int8"),
    ),
    Claim(
        "int8's speed and a cut's multiply",
        "int8 takes the same share of the time of a cut network as of the whole one",
        "latency of three layers in int8, of the uncut float32 file's; one measurement of each task",
        INT8,
        int8_times,
        decides=f"{command('int8_sst2')}, of each task",
    ),
    Claim(
        "The int8 file is faster than every other way that was tried",
        "one text, and 32 together",
        "time of the fastest other over ours: ONNX Runtime's and optimum's recipes, OpenVINO, torch",
        ("rivals", TWO_THREADS, f"rivals{AVX2}"),
        fastest_rivals,
        FASTER,
        decides=f"{command('rivals')} and {command(TWO_THREADS)}",
    ),
    Claim(
        "Sum and LayerNormalization are faster than SkipLayerNormalization",
        "in int8, the same network",
        "times as fast as with the operator in their place; one block of MiniLM, one thread",
        ("operators",),
        norms,
        FASTER,
        decides=command("operators"),
    ),
    Claim(
        "ModernBERT's export is faster than the stock one",
        "the same network, both in float32",
        "times as fast as the export of transformers' class; 6 layers of 384, new weights",
        ("families",),
        stock_exports,
        FASTER,
        decides=command("families"),
    ),
    Claim(
        "A fine-tuning step is faster than plain transformers'",
        "the same losses and rows",
        "times as fast as a loop over transformers' class, or its Trainer, rows sorted by length; MiniLM on CoLA",
        FINETUNE_STEPS,
        training_steps,
        FASTER,
        decides=command("finetune_step"),
    ),
    Claim(
        "Repair brings a cut network closer to its teacher",
        "without training",
        "KL on select to the uncut model before and after, half of the multiply-adds; one model a task",
        tuple(f"repair_{task}" for task in TASKS if has_record(f"repair_{task}")),
        repaired,
        decides="the same on more seeds: `python benchmarks/measure_repair.py --help`",
    ),
    Claim(
        "`search` beats the grid of its family",
        "at equal int8 latency, above a quarter",
        "200 trials, three search seeds on one family, best on select",
        ("search_sst2", "search_cola", "search_mrpc"),
        searched,
        decides=command("search_sst2"),
    ),
    Claim(
        "A killed run ends with the same weights",
        "to the bit, on one machine",
        "SIGKILL at random moments, resumed until done, weights and predictions compared",
        ("kill_resume", "fit_kills", "kills"),
        kills,
        decides=command("kills"),
    ),
    Claim(
        "A full disk loses nothing",
        "one line, nothing half written, and the same command finishes with room",
        "disks with room for k more pages or files, verb by verb, tiny models",
        ("full_disk",),
        full_disks,
        decides="as root, `python benchmarks/measure_full_disk.py`",
    ),
)

PAPERS = {
    "DynaBERT, [2004.04037](https://arxiv.org/abs/2004.04037)": DYNABERT,
    "schuBERT, [2005.06628](https://arxiv.org/abs/2005.06628)": SCHUBERT,
    "Undivided Attention, [2012.11881](https://arxiv.org/abs/2012.11881)": UNDIVIDED,
    "Depth, [2111.10951](https://arxiv.org/abs/2111.10951)": DEPTH,
    "Ours": OURS,
}
