"""Every sentence the page shows, in one place. Knows no widget."""

TITLE = "mmapp"
SUBTITLE = "Fine-tune a model that reads a text *and* looks at an image. See whether the image helps."

TRY = "Try"
DATA = "Data"
TRAIN = "Train"
RESULTS = "Results"

# Try
TRY_INTRO = "Ask a finished model. Either half may be left out."
MODEL = "Model"
MODEL_INFO = "The bundled one, or one of your own runs."
TEXT = "Text"
TEXT_PLACEHOLDER = "What the picture comes with: a description, a question, a claim"
IMAGE = "Image"
NAMES = "Answer with one of these (optional)"
NAMES_INFO = "Any labels, separated by commas: this model answers by their names, learnt or not."
PREDICT = "Predict"
ANSWER = "Answer"
TAGGED = "Words and their labels"
EXAMPLES = "Examples"
MANY = "Many pairs at once"
MANY_INTRO = "A zip or a table, as for training but without labels. You get a CSV with as many rows."
MANY_FILE = "Zip or table"
MANY_START = "Answer all"
MANY_RESULT = "Answers"
MANY_DONE = "{answered} of {rows} rows answered."
NO_MODEL = "There is no finished model yet. Train one first."
WAKING = "Loading the model …"

# Data
DATA_INTRO = "Begin with a sample, or bring your own pairs: an image, a text and a label each."
SAMPLE = "Sample"
SAMPLES = {
    "digits": "Digits: does the text describe the handwritten digit?",
    "parcels": "Parcels: which shelf, by handwritten zone and contents?",
    "spot": "Spot: which words of the line name the digit in the picture?",
}
UPLOAD = "Your pairs"
UPLOAD_INFO = (
    "A zip with images and metadata.csv (file_name, text, label), or a table and its images."
)
COLUMNS = "Columns and splits"
COLUMNS_INFO = "Guessed from names and contents; choose others if a guess is wrong."
COLUMN_LABELS = {
    "image": "Image column",
    "text": "Text column",
    "label": "Label column",
    "split": "Split column",
}
COLUMN_GUESS = "guess"
READ_AGAIN = "Read again"
PAIRS = "Pairs"
FINDINGS = "Findings"
NO_FINDINGS = "Nothing wrong or suspicious was found."
MORE_FINDINGS = "… and {count} more of this kind"
USABLE = "usable pairs"
SET_ASIDE = "rows set aside"
CLASSES = "labels"
SPLITS = {"train": "to learn", "validation": "to choose", "test": "to report", "": "not dealt"}
TO_TRAIN = "Train on this"

# Train
CHOSEN_DATA = "Training on **{title}**"
START_FROM = "Start from"
START_FROM_INFO = "A finished model goes on learning: for longer, or from other pairs, new labels too."
START_NOTHING = "Nothing: the encoders as they come"
PRESET = "How much"
PRESETS = {
    "quick": "Quick: small encoders from nothing, about a minute",
    "classic": "Classic: BERT and ResNet-50, frozen, a fusion on top",
    "strong": "Strong: BERT and ResNet-50, every weight learns (wants a GPU)",
}
ADVANCED = "Advanced: every knob"
GROUPS = {
    "model": "What is built",
    "training": "How it learns",
    "data": "What rows mean, and how pairs are dealt",
}
LEFT_OPEN = "found out"
START = "Start training"
STOP = "Stop and save"
RESUME = "Resume"
NO_RUN = "No run yet. Press “Start training”: progress, curves and scores appear here."
CURVES_LOSS = "Loss"
CURVES_SCORE = "Validation score"
SERIES = {
    "loss": "training, per step",
    "train_loss": "training, per epoch",
    "validation_loss": "validation",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
}
STATUS = {
    "queued": "Waiting",
    "running": "Training",
    "stopping": "Stopping after this step",
    "done": "Done",
    "stopped": "Stopped and saved",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
QUEUED_BEHIND = "{count} runs before this one"
PREPARING = "opening the pairs and the encoders"
ENCODING = "computing {modality} features once: {done} of {total}"
STEP = "step {step} of {steps}"
LEFT = "about {time} left"
BEST = "best epoch {epoch}"
RESULT = "test accuracy {accuracy:.3f} ({low:.3f} – {high:.3f})"
LINK = "Link to this run"
LOG = "Log"
SEARCH = "Search for good settings"
SEARCH_INTRO = (
    "Tries fusions, tunings and step sizes one after the other and keeps the best model by the "
    "validation pairs. The settings above come first; everything not searched stays as they say."
)
SEARCH_START = "Start searching"
TRIAL = "trial {number}"
BEST_SO_FAR = ", best so far {score:.3f}"
BEST_TRIAL = "best of {count} trials: number {number}, {fusion}, {tuning}, {learning_rate:g}"
TRIAL_HEADERS = ["fusion", "tuning", "trial", "step size", "validation figure", "best epoch", "time"]

# Train: several at once
SEVERAL = "Compare several"
SEVERAL_INTRO = (
    "One run for each fusion, tuning and seed; everything else as chosen above. They run one after "
    "the other, and Results shows a table that fills."
)
COMPARED = {"fusion": "Fusions", "tuning": "Tunings"}
SEEDS = "Seeds"
SEEDS_INFO = "Runs of each, with other first weights, order and deal: how much is chance?"
SEVERAL_START = "Queue runs"
QUEUE_RUNS = "Queue {count} runs"
RUNS = "{count} runs"
ROUGHLY = "roughly {time} in all"
LEFT_OUT = "Left out: {}"
TOO_FEW = "There is nothing to compare yet. Choose at least two fusions, tunings or seeds."
QUEUED = "{count} runs are queued."
TO_TABLE = "See the table"

# Results
RESULTS_INTRO = "Scores on test pairs that chose nothing. The bracket is the 95 % bootstrap interval."
RUN = "Run"
NO_REPORT = "No finished run yet. The bundled model's report is shown as soon as it is chosen."
BUNDLED = "bundled: {name}"
HEADLINES = {
    "accuracy": "Accuracy",
    "entity_f1": "Entity F1",
    "macro_f1": "Macro F1",
    "balanced_accuracy": "Balanced accuracy",
    "roc_auc": "ROC-AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
}
TEST_PAIRS = "test pairs"
BEFORE = "Before: accuracy {before:.3f}; change {change:+.3f} ({low:+.3f} – {high:+.3f})"
CALIBRATED = (
    "Calibrated on validation pairs: expected calibration error {ece:.3f}, {ece_before:.3f} before "
    "(temperature {temperature:.2f})"
)
RETRIEVAL = {
    "text_to_image": "A text finds its image first among {candidates}",
    "image_to_text": "An image finds its text first among {candidates}",
}
RETRIEVED = ": {share:.3f} ({low:.3f} – {high:.3f}), by chance {chance:.3f}"
MAJORITY = "Always answering {label}: accuracy {accuracy:.3f}"
PER_CLASS = "Label by label"
CONFUSION = "Confusion: rows are the true labels, columns the answers"
NO_CONFUSION = "Rows here may have several labels; there is no one answer to confuse with another."
COMPARE = "Runs side by side"
PER_CLASS_HEADERS = ["label", "precision", "recall", "F1", "pairs"]
COMPARE_HEADERS = ["model", "accuracy", "macro F1", "test pairs"]
NO_RUNS = "No finished run yet. Train one; each is a row here, the best first."
COMPARISONS = "Comparisons"
COMPARISON = "Comparison"
NO_COMPARISON = "No comparison yet. Open “Compare several” in Train to see which fusion helps."
CANCEL = "Cancel it"
CANCELLED = "Runs cancelled"
TEST_ACCURACY = "Test accuracy"
TABLE_INFO = "Test accuracy: mean (lowest – highest) over the seeds."
RANGE_MEAN = "mean; the line reaches from the lowest to the highest seed"
RANGE_BASELINE = "one half alone; the dashed line is the best of them"
ENSEMBLE = "Several as one"
ENSEMBLE_INTRO = "An ensemble often answers better than its best member. It is a model like any other."
MEMBERS = "Runs to join"
MEMBERS_INFO = "Two or more, of the same data."
STRATEGY = "How their answers become one"
STRATEGIES = {
    "mean": "mean of their probabilities",
    "weighted": "mean, weighted by validation accuracy",
    "vote": "majority vote",
    "greedy": "greedy: the mix that is best on validation pairs",
}
ENSEMBLE_START = "Make an ensemble"
ENSEMBLE_TITLE = "ensemble of {count} · {strategy} · {when}"
ENSEMBLE_MADE = "Made: {title}. Its report is above; Try asks it."
OTHER_DATA = "{one} learnt from other data than {other}. Choose runs of the same data."

# Mistakes
APOLOGY = "Something unexpected went wrong; the server's log has it under {name}."
