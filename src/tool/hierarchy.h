// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A network's classes as a hierarchy, as the kernel has it, with the names of those that it serves; and the ways to
// show one.
#pragma once

#include "inventory.h"
#include "virfloor/tree.h"

#include <nlohmann/json.hpp>

#include <ostream>
#include <string>
#include <vector>

namespace virfloor::tool {

struct Node {
    ClassId id;
    std::string label; // in the user's language
    BytesPerSecond rate, ceil;
    std::string leaf;           // the queue's kind; empty where it is an inner class, or none of ours
    std::vector<Node> children; // by class ID
};

// The classes that hang on the qdisc itself.
std::vector<Node> hierarchy(const Tree& tree, const NetworkState& network);

void print_text(std::ostream& out, const NetworkState& network, const std::vector<Node>& roots);
// For Graphviz' dot(1).
void print_dot(std::ostream& out, const NetworkState& network, const std::vector<Node>& roots);
// A row for each class; a bar's length is the rate's share of the largest ceil.
void print_svg(std::ostream& out, const NetworkState& network, const std::vector<Node>& roots);
nlohmann::ordered_json to_json(const Node& node);

} // namespace virfloor::tool
