"""Ranking: replays histories, ranks test cases, lists recommendations, measures and compares."""
