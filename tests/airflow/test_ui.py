"""What a person clicks in Airflow's UI, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.airflow.scene import Scene, check_days

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.airflow, pytest.mark.postgres, pytest.mark.browser, pytest.mark.timeout(600)]


def test_backfill_by_clicks(page: Page, scene: Scene) -> None:
    """Dags → binance_daily → Trigger → Backfill, from and to, Run Backfill."""
    scene.airflow.wait_until_backfills_are_closed("binance_daily")
    page.goto(f"{scene.airflow.url}/dags/binance_daily")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog").filter(has=page.get_by_role("heading", name="binance_daily"))
    dialog.get_by_text("Backfill", exact=True).click()
    for _ in ("From", "To"):  # the first that is still empty; the calendar before may not be gone yet
        dialog.get_by_text("Select date and time").first.click()
        page.get_by_placeholder("YYYY/MM/DD").last.fill("2026/11/07")
        page.get_by_placeholder("HH:mm").last.fill("00:00")
        page.get_by_placeholder("HH:mm").last.press("Enter")
        page.keyboard.press("Escape")
    dialog.get_by_text("1 run will be triggered.").wait_for()
    dialog.get_by_role("button", name="Run Backfill").click()
    page.get_by_text("Backfill generated").wait_for()
    day = "2026-11-07T00:00:00Z"
    assert scene.airflow.backfilled("binance_daily", day, day) == ["success"]
    check_days(scene.store, day, "2026-11-08T00:00:00Z")
