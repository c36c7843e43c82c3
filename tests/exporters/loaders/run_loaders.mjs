// Runs folders in transformers.js: a JSON list of jobs on standard input, a JSON list of answers on standard output.
// Arguments: the folder that holds all models' folders. The package comes from the folder that this script lies in.
import { readFileSync } from 'node:fs';
import {
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    env,
    pipeline,
} from '@huggingface/transformers';

const CLASSES = {
    'text-classification': AutoModelForSequenceClassification,
    'token-classification': AutoModelForTokenClassification,
    'question-answering': AutoModelForQuestionAnswering,
    'fill-mask': AutoModelForMaskedLM,
};
env.allowRemoteModels = false;
env.localModelPath = process.argv[2];

async function answer({ folder, task, dtype, texts, others, options }) {
    if (task === 'feature-extraction') {
        const pipe = await pipeline(task, folder, { dtype });
        return (await pipe(texts, options)).tolist();
    }
    const tokenizer = await AutoTokenizer.from_pretrained(folder);
    const model = await CLASSES[task].from_pretrained(folder, { dtype });
    const inputs = tokenizer(texts, { text_pair: others, padding: true, truncation: true });
    const outputs = await model(inputs);
    const label = task === 'text-classification' ? (await (await pipeline(task, folder, { dtype }))(texts[0]))[0].label : null;
    return task === 'question-answering'
        ? { start: outputs.start_logits.tolist(), end: outputs.end_logits.tolist() }
        : { logits: outputs.logits.tolist(), label };
}

const answers = [];
for (const job of JSON.parse(readFileSync(0, 'utf-8'))) {
    answers.push(await answer(job));
}
console.log(JSON.stringify(answers));
