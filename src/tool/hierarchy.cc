// SPDX-License-Identifier: LGPL-2.1-or-later
#include "hierarchy.h"

#include "output.h"
#include "table.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <glib.h>

#include <algorithm>

namespace virfloor::tool {

namespace {

std::string leaf_name(const Class& shown) { return shown.inner || !shown.leaf ? "" : name(*shown.leaf); }

// Interfaces with one address share a class.
std::string label_of(ClassId id, const NetworkState& network)
{
    if (id == root_class)
        return _("root");
    if (id == catchment_class)
        return _("catchment");
    std::string label;
    for (const Interface& at : network.interfaces)
        if (at.floor && at.id == id)
            label += (label.empty() ? "" : ", ") + (at.domain.empty() ? "" : at.domain + " ") + at.mac.text();
    return label.empty() ? _("(nobody)") : label;
}

std::vector<Node> below(std::optional<ClassId> parent, const Tree& tree, const NetworkState& network)
{
    std::vector<Node> nodes;
    for (const auto& [id, shown] : tree.classes)
        if (shown.parent == parent && shown.id != parent)
            nodes.push_back({id, label_of(id, network), shown.shape.rate, shown.shape.ceil, leaf_name(shown),
                             below(id, tree, network)});
    return nodes;
}

std::string headline(const NetworkState& network)
{
    return format(_("network %s, bridge %s: average %s kB/s, floors of %s kB/s promised"), network.name.c_str(),
                  network.bridge.c_str(), kilobytes_text(in_bytes(network.limits.average)).c_str(),
                  kilobytes_text(in_bytes(promises(network).floor_sum())).c_str());
}

void add_rows(Table& table, const Node& node, const std::string& before, bool last)
{
    table.add({before + (last ? "└─ " : "├─ ") + class_text(node.id), node.label, kilobytes_text(node.rate),
               kilobytes_text(node.ceil), node.leaf});
    for (const Node& child : node.children)
        add_rows(table, child, before + (last ? "   " : "│  "), &child == &node.children.back());
}

// A text in double quotes, as dot(1) reads it.
std::string dot_quoted(const std::string& text)
{
    std::string quoted = "\"";
    for (const char character : text) {
        if (character == '"' || character == '\\')
            quoted += '\\';
        quoted += character;
    }
    return quoted + '"';
}

void print_dot_node(std::ostream& out, const Node& node, const std::string& parent)
{
    const std::string name = dot_quoted(class_text(node.id));
    const std::string figures =
        format(_("rate %s, ceil %s kB/s"), kilobytes_text(node.rate).c_str(), kilobytes_text(node.ceil).c_str());
    out << "  " << name << " [label=" << dot_quoted(class_text(node.id) + "  " + node.label + "\n" + figures)
        << "];\n  " << parent << " -> " << name << ";\n";
    for (const Node& child : node.children)
        print_dot_node(out, child, name);
}

// As much of a label as there is room for.
std::string shortened(const std::string& label)
{
    constexpr glong most = 46;
    if (g_utf8_strlen(label.c_str(), -1) <= most)
        return label;
    return label.substr(0,
                        static_cast<std::size_t>(g_utf8_offset_to_pointer(label.c_str(), most - 1) - label.c_str())) +
           "…";
}

// A picture in rows: its measures are in pixels.
class Picture {
public:
    Picture(std::ostream& out, BytesPerSecond widest) : out_(out), widest_(widest) {}

    void row(const Node& node, int depth, int parent_y = 0)
    {
        const int y = top + row_height * rows_++, x = margin + indent * depth;
        const auto length = [this](BytesPerSecond rate) {
            return widest_ ? static_cast<double>(bar_room) * static_cast<double>(rate.count) /
                                 static_cast<double>(widest_.count)
                           : 0.0;
        };
        if (depth > 0)
            out_ << format("<path class='line' d='M%d %d V%d H%d'/>\n", x - indent + 4, parent_y + 14, y + 4, x - 4);
        out_ << format("<text x='%d' y='%d'><tspan class='id'>%s</tspan> %s</text>\n", x, y + 9,
                       class_text(node.id).c_str(), escape_xml(shortened(node.label)).c_str());
        out_ << format("<rect class='ceil' x='%d' y='%d' width='%.0f' height='12'/>\n", bar_start, y - 2,
                       length(node.ceil));
        out_ << format("<rect class='rate' x='%d' y='%d' width='%.0f' height='12'/>\n", bar_start, y - 2,
                       length(node.rate));
        out_ << format("<text class='figure' x='%d' y='%d'>%s / %s</text>\n", bar_start + bar_room + 8, y + 9,
                       kilobytes_text(node.rate).c_str(), kilobytes_text(node.ceil).c_str());
        for (const Node& child : node.children)
            row(child, depth + 1, y);
    }

    static constexpr int margin = 12, top = 52, row_height = 24, indent = 18, bar_start = 420, bar_room = 240,
                         width = 860;

private:
    std::ostream& out_;
    BytesPerSecond widest_;
    int rows_ = 0;
};

int count(const std::vector<Node>& nodes)
{
    int sum = 0;
    for (const Node& node : nodes)
        sum += 1 + count(node.children);
    return sum;
}

} // namespace

std::vector<Node> hierarchy(const Tree& tree, const NetworkState& network) { return below({}, tree, network); }

void print_text(std::ostream& out, const NetworkState& network, const std::vector<Node>& roots)
{
    out << headline(network) << '\n';
    Table table({{_("CLASS")}, {_("WHOSE")}, {_("RATE kB/s"), true}, {_("CEIL kB/s"), true}, {_("LEAF")}});
    for (const Node& root : roots)
        add_rows(table, root, "", &root == &roots.back());
    table.print(out);
}

void print_dot(std::ostream& out, const NetworkState& network, const std::vector<Node>& roots)
{
    out << "digraph " << dot_quoted(network.name)
        << " {\n  node [shape=box];\n  \"1:\" [label=" << dot_quoted("1:  htb\n" + network.bridge) << "];\n";
    for (const Node& root : roots)
        print_dot_node(out, root, "\"1:\"");
    out << "}\n";
}

void print_svg(std::ostream& out, const NetworkState& network, const std::vector<Node>& roots)
{
    BytesPerSecond widest;
    for (const Node& root : roots)
        widest = std::max(widest, root.ceil);
    out << format("<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d'>\n", Picture::width,
                  Picture::top + Picture::row_height * count(roots) + Picture::margin)
        << "<style>text{font:13px sans-serif}.id{font-family:monospace;font-weight:bold}.ceil{fill:#d5e2ef}"
           ".rate{fill:#2f6ea8}.figure{font-size:12px}.line{fill:none;stroke:#999}</style>\n"
        << format("<rect width='100%%' height='100%%' fill='white'/>\n<text x='%d' y='24'>%s</text>\n", Picture::margin,
                  escape_xml(headline(network)).c_str())
        << format("<text class='figure' x='%d' y='42'>%s</text>\n", Picture::bar_start,
                  _("dark: rate, light: ceil; in kB/s"));
    Picture picture(out, widest);
    for (const Node& root : roots)
        picture.row(root, 0);
    out << "</svg>\n";
}

nlohmann::ordered_json to_json(const Node& node)
{
    nlohmann::ordered_json json{{"class", class_text(node.id)},
                                {"class_id", node.id.minor},
                                {"label", node.label},
                                {"rate_bytes_per_second", node.rate.count},
                                {"ceil_bytes_per_second", node.ceil.count}};
    if (!node.leaf.empty())
        json["leaf"] = node.leaf;
    if (!node.children.empty())
        json["children"] = nlohmann::ordered_json::array();
    for (const Node& child : node.children)
        json["children"].push_back(to_json(child));
    return json;
}

} // namespace virfloor::tool
