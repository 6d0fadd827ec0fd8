// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/device_tree.h"

#include "netlink.h"
#include "reader.h"
#include "translator.h"
#include "virfloor/error.h"
#include "virfloor/text.h"

#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <iterator>

namespace virfloor::tc {

struct DeviceTree::State {
    State(std::shared_ptr<Netlink> netlink_, std::string device_, Direction direction)
        : netlink(std::move(netlink_)), device(std::move(device_)),
          key(direction == Direction::inbound ? MacKey::destination : MacKey::source)
    {
    }

    // Sends the requests, and appends them to what is done; on a failure all that is done is taken
    // back.
    void carry_out(std::vector<Reversible> requests);
    // Takes back all that is done, and throws the error, with what could not be taken back.
    [[noreturn]] void give_up(const Error& error);
    void find_leaf();
    void reclaim();
    void show_hidden_tables();
    template <class Requests = std::vector<Request>, class Projection = std::identity>
    std::vector<Answer> send(const Requests& requests, Projection request = {});

    std::shared_ptr<Netlink> netlink;
    std::string device;
    MacKey key;
    int ifindex = no_ifindex;
    Translator translator;
    std::vector<Reversible> done;
};

std::shared_ptr<Netlink> open_netlink() { return std::make_shared<Netlink>(); }

DeviceTree::DeviceTree(std::shared_ptr<Netlink> netlink, std::string device, Direction direction)
    : state_(std::make_unique<State>(std::move(netlink), std::move(device), direction))
{
}

DeviceTree::~DeviceTree() = default;
DeviceTree::DeviceTree(DeviceTree&&) noexcept = default;
DeviceTree& DeviceTree::operator=(DeviceTree&&) noexcept = default;

int find_device(const std::string& name)
{
    const unsigned index = if_nametoindex(name.c_str());
    if (index == 0)
        throw kernel_error(format(_("cannot find network device '%s'"), name.c_str()), {errno, ""});
    return static_cast<int>(index);
}

int DeviceTree::locate()
{
    char name[IFNAMSIZ];
    if (const unsigned found = if_nametoindex(state_->device.c_str()); found != 0)
        state_->ifindex = static_cast<int>(found);
    else if (!if_indextoname(static_cast<unsigned>(state_->ifindex), name))
        state_->ifindex = no_ifindex;
    return state_->ifindex;
}

Tree DeviceTree::read()
{
    if (locate() == no_ifindex)
        throw kernel_error(format(_("cannot find network device '%s'"), state_->device.c_str()), {ENODEV, ""});
    return state_->translator.load(read_picture(*state_->netlink, state_->ifindex, state_->key));
}

template <class Requests, class Projection>
std::vector<Answer> DeviceTree::State::send(const Requests& requests, Projection request)
{
    std::vector<Message> messages;
    messages.reserve(requests.size());
    for (const auto& each : requests)
        messages.push_back(encode(std::invoke(request, each), ifindex, key));
    return netlink->transact(messages);
}

void DeviceTree::State::give_up(const Error& error)
{
    std::vector<Request> back;
    for (auto at = done.rbegin(); at != done.rend(); ++at)
        back.insert(back.end(), at->undo.begin(), at->undo.end());
    done.clear();
    std::string left;
    if (!back.empty()) {
        try {
            const auto answers = send(back);
            for (std::size_t i = 0; i < answers.size() && left.empty(); ++i)
                if (answers[i].error)
                    left = kernel_error(describe(back[i], device, key), answers[i]).what();
        } catch (const Error& also) {
            left = also.what();
        }
    }
    if (left.empty())
        throw error;
    throw Error(error.refusal(), format(_("%s (and not all could be taken back: %s)"), error.what(), left.c_str()),
                error.system_errno());
}

void DeviceTree::State::carry_out(std::vector<Reversible> requests)
{
    if (requests.empty())
        return;
    std::vector<Answer> answers;
    try {
        answers = send(requests, &Reversible::request);
    } catch (const Error& error) {
        // Any of them may have been carried out.
        std::ranges::move(requests, std::back_inserter(done));
        give_up(error);
    }
    std::optional<std::size_t> failed;
    for (std::size_t i = 0; i < answers.size(); ++i) {
        if (answers[i].error == 0)
            done.push_back(std::move(requests[i]));
        else if (!failed)
            failed = i;
    }
    if (failed)
        give_up(kernel_error(describe(requests[*failed].request, device, key), answers[*failed]));
}

// Asks the kernel for the best queue it has by putting it below the catchment, in place of any that
// is there.
void DeviceTree::State::find_leaf()
{
    send({{Verb::remove, LeafQdisc{catchment_class, Leaf::pfifo}}});
    for (const Leaf leaf : {Leaf::fq_codel, Leaf::sfq}) {
        if (send({{Verb::add, LeafQdisc{catchment_class, leaf}}}).front().error == 0) {
            translator.set_leaf(leaf);
            return;
        }
    }
    translator.set_leaf(Leaf::pfifo);
}

void DeviceTree::State::reclaim()
{
    const auto requests = translator.addresses().reclaim();
    if (requests.empty())
        return;
    const auto answers = send(requests);
    for (std::size_t i = 0; i < answers.size(); ++i)
        if (answers[i].error == 0 || answers[i].error == ENOENT)
            translator.addresses().reclaimed(std::get<U32Table>(requests[i].object).id);
}

void DeviceTree::reclaim() { state_->reclaim(); }

bool DeviceTree::has_unused_tables() const { return state_->translator.addresses().has_unused(); }

// A table of ours makes a preference of ours, and the tables that belong to it are dumped again.
void DeviceTree::State::show_hidden_tables()
{
    const Request request{Verb::add, Translator::revealing_table};
    if (const Answer answer = send({request}).front(); answer.error)
        throw kernel_error(describe(request, device, key), answer);
    translator.load(read_picture(*netlink, ifindex, key));
}

void DeviceTree::apply(const Change& change)
{
    if (change.empty())
        return;
    State& state = *state_;
    state.done.clear();
    state.reclaim();
    const bool new_filters =
        std::ranges::any_of(change, [](const Step& step) { return std::holds_alternative<AddFilters>(step); });
    if (new_filters && state.translator.hides_tables())
        state.show_hidden_tables();
    std::vector<Reversible> requests;
    for (const Step& step : change)
        std::ranges::move(state.translator.translate(step), std::back_inserter(requests));
    const bool leaf_unknown = !state.translator.leaf();
    state.carry_out(std::move(requests));
    if (!leaf_unknown)
        return;
    try {
        state.find_leaf();
    } catch (const Error& error) {
        state.give_up(error);
    }
    std::vector<Reversible> leaves;
    for (const Step& step : change)
        if (const auto* add = std::get_if<AddClass>(&step))
            if (!add->added.inner && add->added.id != catchment_class)
                std::ranges::move(state.translator.leaf_of(add->added.id), std::back_inserter(leaves));
    state.carry_out(std::move(leaves));
}

} // namespace virfloor::tc
