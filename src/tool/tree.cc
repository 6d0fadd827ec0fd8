// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "hierarchy.h"
#include "inventory.h"
#include "options.h"
#include "output.h"
#include "virfloor/device_tree.h"
#include "virfloor/text.h"

#include <iostream>

namespace virfloor::tool {

int tree(int count, char** arguments)
{
    Common common;
    bool dot = false, svg = false;
    Options options(_("NETWORK"),
                    _("Shows a network's classes as the kernel has them, with rates and ceilings in kB/s (1000 bytes a "
                      "second)."));
    options.flag("dot", 0, _("Print a graph for Graphviz"), &dot);
    options.flag("svg", 0, _("Print a picture"), &svg);
    common.add_to(options);
    const std::string name = options.parse(count, arguments, 1, 1).front();
    if (dot + svg + common.json > 1)
        throw UsageError(_("Only one of --dot, --svg and --json can be printed"));

    const NetworkState network = read_inventory(common.uris, name).front();
    if (!network.floored)
        throw Error(Refusal::operation_unsupported,
                    format(_("Network '%s' has no tree: it needs <inbound average=…/>, and forward mode nat, route, "
                             "open or none"),
                           name.c_str()));
    const Tree read = tc::DeviceTree(tc::open_netlink(), network.bridge, Direction::inbound).read();
    const auto roots = hierarchy(read, network);
    if (roots.empty())
        throw Error(Refusal::system, format(_("Bridge %s of network '%s' has no classes: virt-floor check says more"),
                                            network.bridge.c_str(), name.c_str()));
    if (common.json) {
        auto json = nlohmann::ordered_json{{"network", name}, {"bridge", network.bridge}};
        for (const Node& root : roots)
            json["classes"].push_back(to_json(root));
        print_json(json);
    } else {
        (dot ? print_dot : svg ? print_svg : print_text)(std::cout, network, roots);
    }
    return exit_done;
}

} // namespace virfloor::tool
