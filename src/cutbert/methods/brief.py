"""A short training of one subnet: cut out of its supernet after it has imitated the whole of it for some steps."""

from __future__ import annotations

import copy
from dataclasses import replace

from cutbert.fronts.front import Entry
from cutbert.fronts.score import whole_point
from cutbert.methods.distil import DistillStep, Teacher
from cutbert.methods.objectives import TaskObjective
from cutbert.methods.recipes import RECIPES, override_plan
from cutbert.shape.space import GridPoint
from cutbert.surgery.extract import extract
from cutbert.train.loop import Stage, train_stage
from cutbert.train.run_folder import RunFolder
from cutbert.train.settings import TrainSettings
from cutbert.train.working import frozen_copy

NETWORKS = "networks"


def train_briefly(
    run: RunFolder, owner: RunFolder, objective: TaskObjective, point: GridPoint, steps: int, train: TrainSettings
) -> Entry:
    """Return the entry of a subnet that was distilled for some steps, and store it as a model folder.

    The step is that of dynabert's default recipe, with this subnet alone and the whole supernet as teacher. Units
    outside of the subnet get no gradient and are cut off at the end.

    Args:
        run: folder of the search, which receives networks/NAME.
        owner: folder of the run that is searched, which receives predictions/NAME.json.
        objective: the supernet and its task.
        point: the subnet.
        steps: optimizer steps.
        train: training flags.
    """
    prepared, recipe = objective.prepared, RECIPES["default"]
    name = f"{point.name}-t{steps}-{run.path.name[:4]}"
    plan = replace(override_plan(recipe.stages[0].plan, train), name=name, exact_steps=steps)
    stage = replace(recipe.stages[0], plan=plan)
    supernet = prepared.loaded.model
    teacher = Teacher(frozen_copy(supernet, prepared.engine.dtype), None, True)
    student = copy.deepcopy(supernet)
    step = DistillStep(student, teacher, [point], stage, recipe)
    train_stage(student, Stage(plan, prepared.train, step), prepared.engine, train, run)
    small = extract(student, point.subnet)
    entry = objective.score(owner, small, [whole_point(small.shape, name)])[0]
    folder = run.path / NETWORKS / name
    objective.save(run, small, entry, f"{NETWORKS}/{name}")
    return replace(entry, folder=str(folder.relative_to(owner.path)))
