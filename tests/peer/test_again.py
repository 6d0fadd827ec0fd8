# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests of tests/e2e that say more here: stock's tree is whole, sfq and police are there, and libvirt
runs the real tc (--tc-shim does nothing, see init)."""

from test_network import (
    test_autostart_at_boot,
    test_reload_autostarts_as_stock_does,
    test_without_the_module_stock_goes_on,
)
from test_plug import test_floor_beside_the_other_values, test_leaf_is_the_best_the_kernel_has
from test_takeover import (
    stock,
    test_back_to_stock_and_forth_again,
    test_classes_keep_their_counters,
    test_guests_under_stock_are_unplugged_and_replaced_under_ours,
    test_ids_that_stock_leaked_are_free_again,
    test_networks_without_bandwidth_are_not_touched,
    test_trees_are_taken_over_with_their_floors_and_ids,
)
from test_traffic import (
    test_floor_holds_against_unfloored_guests,
    test_floor_holds_for_ipv6_as_for_ipv4,
    test_floors_hold_under_a_flood_and_the_surplus_follows_them,
)
from test_update import test_domiftune_with_all_four_values

__all__ = [
    "stock",
    "test_autostart_at_boot",
    "test_back_to_stock_and_forth_again",
    "test_classes_keep_their_counters",
    "test_domiftune_with_all_four_values",
    "test_floor_beside_the_other_values",
    "test_floor_holds_against_unfloored_guests",
    "test_floor_holds_for_ipv6_as_for_ipv4",
    "test_floors_hold_under_a_flood_and_the_surplus_follows_them",
    "test_guests_under_stock_are_unplugged_and_replaced_under_ours",
    "test_ids_that_stock_leaked_are_free_again",
    "test_leaf_is_the_best_the_kernel_has",
    "test_networks_without_bandwidth_are_not_touched",
    "test_reload_autostarts_as_stock_does",
    "test_trees_are_taken_over_with_their_floors_and_ids",
    "test_without_the_module_stock_goes_on",
]
