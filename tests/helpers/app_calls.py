"""Calls of an application in this process."""

import asyncio

import httpx


def together(app, *requests):
    """Send requests (method, path, arguments of httpx) at the same time; return the responses."""

    async def ask():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://test"
        ) as client:
            return await asyncio.gather(
                *(client.request(method, path, **more) for method, path, more in requests)
            )

    return asyncio.run(ask())


def ask(app, method, path, **more):
    [response] = together(app, (method, path, more))
    return response


def pairs(recommendations):
    return [(entry["item"], entry["score"]) for entry in recommendations]


def get(app, path, **params):
    response = ask(app, "GET", path, params=params)
    assert response.status_code == 200, response.text
    return response.json()
