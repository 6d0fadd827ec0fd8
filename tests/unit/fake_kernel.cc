// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fake_kernel.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_csum.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <utility>

namespace virfloor::test {

FakeKernel* FakeKernel::current = nullptr;

namespace {

tcmsg header_of(const nlmsghdr& message)
{
    tcmsg result;
    std::memcpy(&result, NLMSG_DATA(const_cast<nlmsghdr*>(&message)), sizeof result);
    return result;
}

std::map<int, Datagram> attributes_of(const unsigned char* at, std::size_t size)
{
    std::map<int, Datagram> result;
    while (size >= sizeof(nlattr)) {
        nlattr head;
        std::memcpy(&head, at, sizeof head);
        if (head.nla_len < sizeof head || head.nla_len > size)
            break;
        result[head.nla_type & NLA_TYPE_MASK] = Datagram(at + sizeof head, at + head.nla_len);
        const std::size_t step = std::min<std::size_t>(NLA_ALIGN(head.nla_len), size);
        at += step;
        size -= step;
    }
    return result;
}

std::map<int, Datagram> attributes_of(const nlmsghdr& message)
{
    const auto* start = reinterpret_cast<const unsigned char*>(&message);
    const std::size_t skip = NLMSG_LENGTH(sizeof(tcmsg));
    return attributes_of(start + skip, message.nlmsg_len - skip);
}

std::string text_of(const std::map<int, Datagram>& attributes, int type)
{
    const auto at = attributes.find(type);
    return at == attributes.end() ? "" : std::string(reinterpret_cast<const char*>(at->second.data()));
}

template <class Value>
std::optional<Value> value_of(const std::map<int, Datagram>& attributes, int type)
{
    const auto at = attributes.find(type);
    if (at == attributes.end() || at->second.size() < sizeof(Value))
        return {};
    Value value;
    std::memcpy(&value, at->second.data(), sizeof value);
    return value;
}

std::uint16_t table_of(std::uint32_t handle) { return static_cast<std::uint16_t>(handle >> 20); }
std::uint32_t bucket_of(std::uint32_t handle) { return handle >> 12 & 0xff; }

} // namespace

Builder::Builder(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence)
{
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = flags;
    header.nlmsg_seq = sequence;
    put(header);
}

Builder& Builder::raw(const void* data, std::size_t size)
{
    const auto* at = static_cast<const unsigned char*>(data);
    bytes_.insert(bytes_.end(), at, at + size);
    return finish();
}

Builder& Builder::finish()
{
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
    const auto length = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &length, sizeof length);
    return *this;
}

Builder& Builder::attribute(unsigned type, const void* data, std::size_t size)
{
    const nlattr head{static_cast<std::uint16_t>(sizeof(nlattr) + size), static_cast<std::uint16_t>(type)};
    raw(&head, sizeof head);
    return raw(data, size);
}

std::size_t Builder::begin(unsigned type)
{
    const std::size_t start = bytes_.size();
    attribute(type, nullptr, 0);
    return start;
}

Builder& Builder::end(std::size_t nest)
{
    const auto length = static_cast<std::uint16_t>(bytes_.size() - nest);
    std::memcpy(bytes_.data() + nest, &length, sizeof length);
    return *this;
}

Datagram acknowledge(const nlmsghdr& request, int error, const std::string& text, bool capped)
{
    const bool whole = error != 0 && !capped;
    Builder answer(NLMSG_ERROR,
                   static_cast<std::uint16_t>((text.empty() ? 0 : NLM_F_ACK_TLVS) | (whole ? 0 : NLM_F_CAPPED)),
                   request.nlmsg_seq);
    answer.put(-error).put(request);
    if (whole)
        answer.raw(reinterpret_cast<const unsigned char*>(&request) + sizeof request,
                   request.nlmsg_len - sizeof request);
    if (!text.empty())
        answer.attribute(NLMSGERR_ATTR_MSG, text);
    return answer.get();
}

void FakeKernel::fail_at(std::size_t number, int error, std::string text)
{
    fault = [=](std::size_t at, const nlmsghdr&) -> std::optional<Fault> {
        if (at != number)
            return {};
        return Fault{error, text, false, false};
    };
}

void FakeKernel::heal()
{
    fault = nullptr;
    answer = nullptr;
    send_error = receive_error = 0;
    changes = dumps = 0;
}

void FakeKernel::clear()
{
    qdiscs.clear();
    classes.clear();
    preferences.clear();
    tables.clear();
    nodes.clear();
    others.clear();
    next_root_ = 0x800;
}

void FakeKernel::receive(const nlmsghdr& message)
{
    if (answer && answer(message))
        return;
    if (message.nlmsg_type == RTM_GETQDISC || message.nlmsg_type == RTM_GETTCLASS ||
        message.nlmsg_type == RTM_GETTFILTER) {
        ++dumps;
        dump(message);
        return;
    }
    const auto planned = silenced_ ? silenced_ : fault ? fault(changes, message) : std::nullopt;
    ++changes;
    Refused result{0, ""};
    try {
        if (header_of(message).tcm_ifindex != device_index || device.empty())
            throw Refused{ENODEV, ""};
        if (!planned || planned->done)
            change(message);
    } catch (const Refused& refused) {
        result = refused;
    }
    if (planned && planned->silent) {
        silenced_ = planned;
        return;
    }
    if (planned)
        result = {planned->error, planned->text};
    if (result.error == 0 && !(message.nlmsg_flags & NLM_F_ACK))
        return;
    queue.push_back(acknowledge(message, result.error, result.text, changes % 2 == 0));
}

void FakeKernel::change(const nlmsghdr& message)
{
    switch (message.nlmsg_type) {
    case RTM_NEWQDISC:
    case RTM_DELQDISC: return qdisc(message);
    case RTM_NEWTCLASS:
    case RTM_DELTCLASS: return htb_class(message);
    case RTM_NEWTFILTER:
    case RTM_DELTFILTER: return filter(message);
    default: throw Refused{EOPNOTSUPP, ""};
    }
}

void FakeKernel::qdisc(const nlmsghdr& message)
{
    const tcmsg header = header_of(message);
    const auto attributes = attributes_of(message);
    const bool root = header.tcm_parent == TC_H_ROOT;
    const auto there = qdiscs.find(header.tcm_parent);
    if (!root && !classes.contains(header.tcm_parent))
        throw Refused{ENOENT, "Failed to find specified qdisc"};
    if (message.nlmsg_type == RTM_DELQDISC) {
        if (there == qdiscs.end() || there->second.handle == 0)
            throw Refused{ENOENT, "Cannot delete qdisc with handle of zero"};
        if (root)
            clear();
        else
            qdiscs.erase(there);
        return;
    }
    const std::string kind = text_of(attributes, TCA_KIND);
    if (missing_kinds.contains(kind))
        throw Refused{ENOENT, "Specified qdisc kind is unknown"};
    if (there != qdiscs.end() && there->second.handle != 0 && message.nlmsg_flags & NLM_F_EXCL)
        throw Refused{EEXIST, "Exclusivity flag on, cannot modify"};
    Qdisc made{kind, header.tcm_handle ? header.tcm_handle : 0x80010000, 0};
    if (kind == "htb") {
        const auto options = attributes.at(TCA_OPTIONS);
        const auto glob = value_of<tc_htb_glob>(attributes_of(options.data(), options.size()), TCA_HTB_INIT);
        if (!glob)
            throw Refused{EINVAL, ""};
        made.default_class = glob->defcls;
    }
    qdiscs[header.tcm_parent] = made;
}

bool FakeKernel::is_used(std::uint32_t handle) const
{
    return std::any_of(classes.begin(), classes.end(), [=](const auto& at) { return at.second.parent == handle; }) ||
           std::any_of(nodes.begin(), nodes.end(), [=](const auto& at) { return at.second.target == handle; }) ||
           std::any_of(others.begin(), others.end(), [=](const auto& at) { return at.second.target == handle; });
}

void FakeKernel::htb_class(const nlmsghdr& message)
{
    const tcmsg header = header_of(message);
    const auto root = qdiscs.find(TC_H_ROOT);
    if (root == qdiscs.end() || root->second.kind != "htb" || root->second.handle != TC_H_MAJ(header.tcm_handle))
        throw Refused{ENOENT, "Failed to find qdisc with specified classid"};
    const auto there = classes.find(header.tcm_handle);
    if (message.nlmsg_type == RTM_DELTCLASS) {
        if (there == classes.end())
            throw Refused{ENOENT, ""};
        if (is_used(header.tcm_handle))
            throw Refused{EBUSY, "HTB class in use"};
        classes.erase(there);
        qdiscs.erase(header.tcm_handle);
        return;
    }
    if (there != classes.end() && message.nlmsg_flags & NLM_F_EXCL)
        throw Refused{EEXIST, ""};
    if (there == classes.end() && !(message.nlmsg_flags & NLM_F_CREATE))
        throw Refused{ENOENT, ""};
    const bool below_root = header.tcm_parent == root->second.handle;
    if (!below_root && !classes.contains(header.tcm_parent))
        throw Refused{ENOENT, "no such parent"};
    const auto attributes = attributes_of(message);
    const auto& body = attributes.at(TCA_OPTIONS);
    const auto options = attributes_of(body.data(), body.size());
    const auto parameters = value_of<tc_htb_opt>(options, TCA_HTB_PARMS);
    if (!parameters || !parameters->rate.rate || !parameters->ceil.rate)
        throw Refused{EINVAL, ""};
    classes[header.tcm_handle] = {below_root ? TC_H_ROOT : header.tcm_parent,
                                  value_of<std::uint64_t>(options, TCA_HTB_RATE64).value_or(parameters->rate.rate),
                                  value_of<std::uint64_t>(options, TCA_HTB_CEIL64).value_or(parameters->ceil.rate),
                                  parameters->buffer,
                                  parameters->cbuffer,
                                  parameters->quantum};
    // A class that gets a child loses its queue.
    qdiscs.erase(below_root ? 0 : header.tcm_parent);
}

void FakeKernel::add_preference(std::uint16_t preference, const std::string& kind, std::uint16_t protocol)
{
    if (missing_kinds.contains(kind))
        throw Refused{ENOENT, "TC classifier not found"};
    if (preferences.contains(preference))
        return;
    Preference made{kind, protocol, 0};
    if (kind == "u32") {
        made.root = next_root_++;
        tables[made.root] = {preference, 1};
    }
    preferences[preference] = made;
}

void FakeKernel::filter(const nlmsghdr& message)
{
    const tcmsg header = header_of(message);
    const auto preference = static_cast<std::uint16_t>(TC_H_MAJ(header.tcm_info) >> 16);
    const std::uint16_t protocol = ntohs(TC_H_MIN(header.tcm_info));
    const auto attributes = attributes_of(message);
    const std::string kind = text_of(attributes, TCA_KIND);
    const auto root = qdiscs.find(TC_H_ROOT);
    if (root == qdiscs.end() || root->second.handle != header.tcm_parent)
        throw Refused{EINVAL, "Parent Qdisc doesn't exists"};
    const auto there = preferences.find(preference);
    if (message.nlmsg_type == RTM_DELTFILTER) {
        if (there == preferences.end() || there->second.protocol != protocol)
            throw Refused{ENOENT, "Filter with specified priority/protocol not found"};
        if (header.tcm_handle == 0)
            return remove_preference(preference);
        if (kind != there->second.kind)
            throw Refused{EINVAL, "Specified filter kind does not match existing one"};
    } else if (there == preferences.end()) {
        add_preference(preference, kind, protocol);
    } else if (there->second.protocol != protocol || there->second.kind != kind) {
        throw Refused{EINVAL, "Specified filter kind does not match existing one"};
    }
    if (kind == "u32")
        return u32(message, preference, header.tcm_handle);
    if (message.nlmsg_type != RTM_DELTFILTER || !others.erase({preference, header.tcm_handle}))
        throw Refused{ENOENT, "Specified filter handle not found"};
    if (std::none_of(others.begin(), others.end(), [=](const auto& at) { return at.first.first == preference; }))
        preferences.erase(preference);
}

bool FakeKernel::is_linked(std::uint16_t table) const
{
    return std::any_of(nodes.begin(), nodes.end(), [=](const auto& at) { return at.second.link_to == table; });
}

void FakeKernel::remove_table(std::uint16_t table)
{
    std::erase_if(nodes, [=](const auto& at) { return table_of(at.first) == table; });
    tables.erase(table);
}

void FakeKernel::remove_preference(std::uint16_t preference)
{
    const auto there = preferences.find(preference);
    if (there->second.kind == "u32") {
        remove_table(there->second.root);
        preferences.erase(there);
        if (std::none_of(preferences.begin(), preferences.end(),
                         [](const auto& at) { return at.second.kind == "u32"; })) {
            tables.clear();
            nodes.clear();
            next_root_ = 0x800;
        }
        return;
    }
    std::erase_if(others, [=](const auto& at) { return at.first.first == preference; });
    preferences.erase(there);
}

void FakeKernel::u32(const nlmsghdr& message, std::uint16_t preference, std::uint32_t handle)
{
    const auto attributes = attributes_of(message);
    if (message.nlmsg_type == RTM_DELTFILTER) {
        const std::uint16_t table = table_of(handle);
        if ((handle & 0xfffff) == 0) {
            if (!tables.contains(table))
                throw Refused{ENOENT, "Specified filter handle not found"};
            if (table >= 0x800)
                throw Refused{EINVAL, "Not allowed to delete root node"};
            if (is_linked(table))
                throw Refused{EBUSY, "Can not delete in-use filter"};
            return remove_table(table);
        }
        if (table == 0)
            handle |= std::uint32_t{preferences.at(preference).root} << 20;
        if (!nodes.erase(handle))
            throw Refused{ENOENT, "Specified filter handle not found"};
        return;
    }
    const auto at = attributes.find(TCA_OPTIONS);
    if (at == attributes.end())
        throw Refused{EINVAL, "Filter options not specified"};
    const auto options = attributes_of(at->second.data(), at->second.size());
    if (const auto divisor = value_of<std::uint32_t>(options, TCA_U32_DIVISOR)) {
        if (handle & 0xfffff || *divisor == 0 || *divisor > 256)
            throw Refused{EINVAL, "Divisor can only be used on a hash table"};
        if (!tables.emplace(table_of(handle), Table{preference, *divisor}).second)
            throw Refused{message.nlmsg_flags & NLM_F_EXCL ? EEXIST : ENOSPC, "Filter already exists"};
        return;
    }
    const std::uint32_t root = std::uint32_t{preferences.at(preference).root} << 20;
    const std::uint32_t place = value_of<std::uint32_t>(options, TCA_U32_HASH).value_or(root);
    if (table_of(handle) != 0 && (handle ^ place) & 0xfffff000)
        throw Refused{EINVAL, "Handle/htid mismatch"};
    const auto table = tables.find(table_of(place));
    if (table == tables.end() || bucket_of(place) >= table->second.buckets)
        throw Refused{EINVAL, "Specified hash table not found"};
    if (!options.contains(TCA_U32_SEL) || options.at(TCA_U32_SEL).size() < sizeof(tc_u32_sel))
        throw Refused{EINVAL, "Selector not specified"};
    Node node{preference, value_of<std::uint32_t>(options, TCA_U32_CLASSID).value_or(0),
              0,          options.at(TCA_U32_SEL),
              "u32",      {}};
    if (const auto link = value_of<std::uint32_t>(options, TCA_U32_LINK)) {
        node.link_to = table_of(*link);
        if (!tables.contains(node.link_to) || node.link_to >= 0x800)
            throw Refused{EINVAL, "Link hash table not found"};
    }
    if (value_of<std::uint32_t>(options, TCA_U32_FLAGS).value_or(0) & TCA_CLS_FLAGS_NOT_IN_HW)
        throw Refused{EINVAL, "Invalid flags"};
    if (const auto actions = options.find(TCA_U32_ACT); actions != options.end()) {
        const auto first = attributes_of(actions->second.data(), actions->second.size()).at(1);
        const auto action = attributes_of(first.data(), first.size());
        const auto& settings = action.at(TCA_ACT_OPTIONS);
        if (text_of(action, TCA_ACT_KIND) != "csum")
            throw Refused{ENOENT, "Failed to load TC action module"};
        const auto parameters =
            value_of<tc_csum>(attributes_of(settings.data(), settings.size()), TCA_CSUM_PARMS).value();
        if (parameters.index != 0 || parameters.action != TC_ACT_OK)
            throw Refused{EINVAL, "not what libvirt's filter does"};
        node.checksum = parameters.update_flags;
    }
    if (!nodes.emplace((place & 0xfffff000) | (handle & 0xfff), node).second)
        throw Refused{EEXIST, "Filter already exists"};
}

namespace {

Datagram selector(const std::vector<tc_u32_key>& keys)
{
    tc_u32_sel head{};
    head.flags = TC_U32_TERMINAL;
    head.nkeys = static_cast<unsigned char>(keys.size());
    Datagram body(sizeof head + keys.size() * sizeof(tc_u32_key));
    std::memcpy(body.data(), &head, sizeof head);
    std::memcpy(body.data() + sizeof head, keys.data(), keys.size() * sizeof(tc_u32_key));
    return body;
}

} // namespace

void FakeKernel::add_u32(std::uint16_t preference, std::uint16_t protocol, MacAddress mac, std::uint32_t target)
{
    add_preference(preference, "u32", protocol);
    std::uint32_t handle = std::uint32_t{preferences.at(preference).root} << 20 | 0x800;
    while (nodes.contains(handle))
        ++handle;
    const auto& b = mac.bytes;
    const std::uint32_t first = static_cast<std::uint32_t>(b[0] << 8 | b[1]),
                        rest = static_cast<std::uint32_t>(b[2] << 24 | b[3] << 16 | b[4] << 8 | b[5]);
    const auto body = selector({{htonl(0xffffffff), htonl(rest), -12, 0}, {htonl(0xffff), htonl(first), -16, 0}});
    nodes[handle] = {preference, target, 0, body, "u32", {}};
}

std::uint32_t FakeKernel::add_checksum_filter()
{
    add_preference(2, "u32", ETH_P_IP);
    const std::uint32_t handle = std::uint32_t{preferences.at(2).root} << 20 | 0x800;
    const auto body = selector({{htonl(0xffff), htonl(68), 20, 0}});
    nodes[handle] = {2, 0, 0, body, "u32", TCA_CSUM_UPDATE_FLAG_IPV4HDR | TCA_CSUM_UPDATE_FLAG_UDP};
    return handle;
}

void FakeKernel::add_fw(std::uint16_t preference, std::uint32_t mark, std::uint32_t target)
{
    add_preference(preference, "fw", 3);
    others[{preference, mark}] = {preference, target, 0, {}, "fw", {}};
}

namespace {

// As tcf_action_dump_1 and tcf_csum_dump do (net/sched/act_api.c, act_csum.c).
void put_checksum(Builder& built, std::uint32_t headers)
{
    tc_csum parameters{};
    parameters.index = 1;
    parameters.refcnt = parameters.bindcnt = 1;
    parameters.action = TC_ACT_OK;
    parameters.update_flags = headers;
    const tcf_t times{};
    const auto actions = built.begin(TCA_U32_ACT);
    const auto first = built.begin(1);
    built.attribute(TCA_ACT_KIND, "csum");
    const auto statistics = built.begin(TCA_ACT_STATS);
    built.number64(1, 0).end(statistics);
    built.number(TCA_ACT_IN_HW_COUNT, 0);
    const auto options = built.begin(TCA_ACT_OPTIONS | NLA_F_NESTED);
    built.attribute(TCA_CSUM_PARMS, &parameters, sizeof parameters);
    built.attribute(TCA_CSUM_TM, &times, sizeof times).end(options).end(first).end(actions);
}

} // namespace

void FakeKernel::dump(const nlmsghdr& message)
{
    const std::uint16_t interrupted =
        interrupted_dumps > 0 ? static_cast<std::uint16_t>(NLM_F_DUMP_INTR) : std::uint16_t{0};
    if (interrupted_dumps > 0)
        --interrupted_dumps;
    const auto flags = static_cast<std::uint16_t>(NLM_F_MULTI | interrupted);
    Datagram all;
    const auto add = [&all, this](const Builder& built) {
        const auto bytes = built.get();
        all.insert(all.end(), bytes.begin(), bytes.end());
        if (all.size() > 4000) {
            queue.push_back(all);
            all.clear();
        }
    };
    const auto object = [&](std::uint16_t type, std::uint32_t parent, std::uint32_t handle, std::uint32_t info,
                            const std::string& kind) {
        tcmsg header{};
        header.tcm_ifindex = device_index;
        header.tcm_parent = parent;
        header.tcm_handle = handle;
        header.tcm_info = info;
        Builder built(type, flags, message.nlmsg_seq);
        built.put(header).attribute(TCA_KIND, kind);
        return built;
    };
    if (message.nlmsg_type == RTM_GETQDISC)
        for (const auto& [parent, seen] : qdiscs) {
            Builder built = object(RTM_NEWQDISC, parent, seen.handle, 1, seen.kind);
            if (seen.kind == "htb") {
                tc_htb_glob glob{};
                glob.version = 3 << 16 | 17;
                glob.defcls = seen.default_class;
                const auto nest = built.begin(TCA_OPTIONS);
                built.attribute(TCA_HTB_INIT, &glob, sizeof glob).end(nest);
            }
            add(built);
        }
    if (message.nlmsg_type == RTM_GETTCLASS)
        for (const auto& [handle, seen] : classes) {
            const auto leaf = qdiscs.find(handle);
            Builder built =
                object(RTM_NEWTCLASS, seen.parent, handle, leaf == qdiscs.end() ? 0 : leaf->second.handle, "htb");
            tc_htb_opt parameters{};
            parameters.rate.rate = static_cast<std::uint32_t>(std::min<std::uint64_t>(seen.rate, UINT32_MAX));
            parameters.ceil.rate = static_cast<std::uint32_t>(std::min<std::uint64_t>(seen.ceil, UINT32_MAX));
            parameters.buffer = seen.buffer;
            parameters.cbuffer = seen.cbuffer;
            parameters.quantum = seen.quantum;
            const auto nest = built.begin(TCA_OPTIONS);
            built.attribute(TCA_HTB_PARMS, &parameters, sizeof parameters);
            if (seen.rate > UINT32_MAX)
                built.number64(TCA_HTB_RATE64, seen.rate);
            if (seen.ceil > UINT32_MAX)
                built.number64(TCA_HTB_CEIL64, seen.ceil);
            built.end(nest);
            add(built);
        }
    if (message.nlmsg_type == RTM_GETTFILTER)
        for (const auto& [number, seen] : preferences) {
            const auto filter = [&, number = number, &seen = seen](std::uint32_t handle) {
                return object(RTM_NEWTFILTER, 0x10000, handle, std::uint32_t{number} << 16 | htons(seen.protocol),
                              seen.kind);
            };
            add(filter(0));
            for (const auto& [id, table] : tables)
                if (table.preference == number) {
                    Builder built = filter(std::uint32_t{id} << 20);
                    const auto nest = built.begin(TCA_OPTIONS);
                    built.number(TCA_U32_DIVISOR, table.buckets).end(nest);
                    add(built);
                }
            for (const auto& [handle, node] : nodes)
                if (node.preference == number) {
                    Builder built = filter(handle);
                    const auto nest = built.begin(TCA_OPTIONS);
                    built.attribute(TCA_U32_SEL, node.selector.data(), node.selector.size());
                    built.number(TCA_U32_HASH, handle & 0xfffff000);
                    if (node.target)
                        built.number(TCA_U32_CLASSID, node.target);
                    if (node.link_to)
                        built.number(TCA_U32_LINK, std::uint32_t{node.link_to} << 20);
                    built.number(TCA_U32_FLAGS, TCA_CLS_FLAGS_NOT_IN_HW);
                    if (node.checksum)
                        put_checksum(built, *node.checksum);
                    built.end(nest);
                    add(built);
                }
            for (const auto& [name, node] : others)
                if (name.first == number) {
                    Builder built = filter(name.second);
                    const auto nest = built.begin(TCA_OPTIONS);
                    built.number(TCA_FW_CLASSID, node.target).end(nest);
                    add(built);
                }
        }
    if (!all.empty())
        queue.push_back(all);
    queue.push_back(Builder(NLMSG_DONE, flags, message.nlmsg_seq).put(0).get());
}

std::string FakeKernel::picture() const
{
    std::ostringstream out;
    out << std::hex;
    for (const auto& [parent, seen] : qdiscs)
        out << "qdisc " << parent << ' ' << seen.kind << ' ' << seen.handle << ' ' << seen.default_class << '\n';
    for (const auto& [handle, seen] : classes)
        out << "class " << handle << " in " << seen.parent << ' ' << seen.rate << ' ' << seen.ceil << ' ' << seen.buffer
            << ' ' << seen.cbuffer << ' ' << seen.quantum << '\n';
    for (const auto& [number, seen] : preferences)
        out << "preference " << number << ' ' << seen.kind << ' ' << seen.protocol << '\n';
    for (const auto& [id, seen] : tables)
        if (id < 0x800 && (is_linked(id) || std::any_of(nodes.begin(), nodes.end(), [id = id](const auto& at) {
                               return table_of(at.first) == id;
                           })))
            out << "table " << id << " of " << seen.preference << ' ' << seen.buckets << '\n';
    const auto place = [](std::uint32_t handle) { return table_of(handle) >= 0x800 ? handle & 0xfffff : handle; };
    for (const auto& [handle, seen] : nodes) {
        out << "node " << seen.preference << ' ' << place(handle) << " to " << seen.target << " link " << seen.link_to;
        for (const unsigned byte : seen.selector)
            out << ' ' << byte;
        if (seen.checksum)
            out << " csum " << *seen.checksum;
        out << '\n';
    }
    for (const auto& [name, seen] : others)
        out << seen.kind << ' ' << name.first << ' ' << name.second << " to " << seen.target << '\n';
    return out.str();
}

} // namespace virfloor::test

using virfloor::test::FakeKernel;

extern "C" {

int __real_nl_connect(nl_sock*, int);

int __wrap_nl_connect(nl_sock* socket, int protocol)
{
    if (FakeKernel::current && FakeKernel::current->connect_error) {
        errno = FakeKernel::current->connect_error;
        return -NLE_NOMEM;
    }
    // A real socket, so that waiting on it takes real time; nothing is sent to it.
    return __real_nl_connect(socket, protocol);
}

int __wrap_nl_send_iovec(nl_sock*, nl_msg*, iovec* parts, unsigned count)
{
    FakeKernel& kernel = *FakeKernel::current;
    if (kernel.send_error) {
        errno = kernel.send_error;
        return -NLE_FAILURE;
    }
    int sent = 0;
    for (unsigned i = 0; i < count; ++i) {
        kernel.receive(*static_cast<const nlmsghdr*>(parts[i].iov_base));
        sent += static_cast<int>(parts[i].iov_len);
    }
    kernel.end_of_send();
    return sent;
}

int __wrap_nl_recv(nl_sock*, sockaddr_nl* sender, unsigned char** data, ucred**)
{
    FakeKernel& kernel = *FakeKernel::current;
    if (kernel.receive_error) {
        errno = std::exchange(kernel.receive_error, 0);
        return -NLE_NOMEM;
    }
    if (kernel.queue.empty())
        return -NLE_AGAIN;
    const auto datagram = kernel.queue.front();
    if (kernel.queue.size() > 1 || !kernel.endless)
        kernel.queue.pop_front();
    *sender = {};
    // A datagram of one byte stands for one that another process sent.
    if (datagram.size() == 1)
        sender->nl_pid = 4711;
    *data = static_cast<unsigned char*>(std::malloc(datagram.size() + 1));
    std::memcpy(*data, datagram.data(), datagram.size());
    return static_cast<int>(datagram.size());
}

unsigned __wrap_if_nametoindex(const char* name)
{
    const FakeKernel& kernel = *FakeKernel::current;
    if (kernel.device == name)
        return static_cast<unsigned>(kernel.device_index);
    errno = ENODEV;
    return 0;
}

char* __wrap_if_indextoname(unsigned index, char* name)
{
    const FakeKernel& kernel = *FakeKernel::current;
    if (!kernel.device.empty() && index == static_cast<unsigned>(kernel.device_index))
        return std::strcpy(name, kernel.device.c_str());
    errno = ENXIO;
    return nullptr;
}

} // extern "C"
