"""A model for the requests of an event loop: those that wait while it runs a batch become the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cutbert.runtime.runner import Model

MOST = 1024  # inputs, after which no more requests join a batch
Request = tuple[Sequence[Any], "str | None", "asyncio.Future[list[Any]]"]  # inputs, prompt, answers


class AsyncModel:
    """Answers requests together, each with its own answers; those that are cancelled do not concern the others.

    Args:
        model: runs in a thread of its own, one batch of requests at a time.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.waiting = model, asyncio.Queue[Request]()

    async def __call__(self, inputs: Sequence[Any], prompt_name: str | None = None) -> list[Any]:
        """Return one answer for each input, in their order; arguments and errors as in `Model`.

        Raises:
            InputError: at once, so that no other request shares a mistake.
        """
        self.model.prompt_of(prompt_name)
        for row, each in enumerate(inputs):
            self.model.check_input(each, row)
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait((inputs, prompt_name, future))
        return await future

    @asynccontextmanager
    async def running(self, *_: object) -> AsyncIterator[None]:
        """Answer requests within a context, such as the lifespan of a server's application."""
        task = asyncio.create_task(self.answer_all())
        yield
        task.cancel()

    async def answer_all(self) -> None:
        """Answer requests for ever."""
        while True:
            taken = [await self.waiting.get()]
            while not self.waiting.empty() and sum(len(inputs) for inputs, *_ in taken) < MOST:
                taken.append(self.waiting.get_nowait())
            for prompt_name in dict.fromkeys(name for _, name, _ in taken):
                await self.answer([each for each in taken if each[1] == prompt_name], prompt_name)

    async def answer(self, taken: Sequence[Request], prompt_name: str | None) -> None:
        """Answer requests that want one prompt."""
        together = [each for inputs, *_ in taken for each in inputs]
        try:
            answers = iter(await asyncio.to_thread(self.model, together, prompt_name=prompt_name))
            for inputs, _, future in taken:
                own = [next(answers) for _ in inputs]
                if not future.cancelled():
                    future.set_result(own)
        except Exception as error:  # of the model: those who wait must hear of it
            for *_, future in taken:
                if not future.done():
                    future.set_exception(error)
