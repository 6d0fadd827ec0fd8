// SPDX-License-Identifier: LGPL-2.1-or-later
#include "netlink.h"

#include "fake_kernel.h"
#include "support.h"

#include <linux/pkt_sched.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace virfloor::tc {
namespace {

using namespace std::chrono_literals;
using test::acknowledge;
using test::Builder;
using test::Datagram;
using test::error_of;
using test::FakeKernel;
using testing::HasSubstr;

Message message()
{
    tcmsg header{};
    header.tcm_ifindex = FakeKernel::ifindex;
    return {RTM_NEWQDISC, NLM_F_ACK, header};
}

std::vector<Message> messages(std::size_t count)
{
    std::vector<Message> result;
    for (std::size_t i = 0; i < count; ++i)
        result.push_back(message());
    return result;
}

class NetlinkTest : public testing::Test {
protected:
    // The fake answers each message with these datagrams.
    void answer_with(std::function<std::vector<Datagram>(const nlmsghdr&)> make)
    {
        kernel_.answer = [=, this](const nlmsghdr& request) {
            for (const auto& datagram : make(request))
                kernel_.queue.push_back(datagram);
            return true;
        };
    }
    Answer only_answer() { return netlink_.transact(messages(1)).front(); }
    std::vector<nlmsghdr> dumped()
    {
        std::vector<nlmsghdr> result;
        tcmsg header{};
        Message request(RTM_GETQDISC, NLM_F_DUMP, header);
        netlink_.dump(request, [&](const nlmsghdr& at) { result.push_back(at); });
        return result;
    }
    static Datagram object(std::uint32_t sequence, std::uint16_t flags = NLM_F_MULTI)
    {
        return Builder(RTM_NEWQDISC, flags, sequence).put(tcmsg{}).get();
    }
    static Datagram done(std::uint32_t sequence, int error = 0, std::uint16_t flags = NLM_F_MULTI)
    {
        return Builder(NLMSG_DONE, flags, sequence).put(error).get();
    }

    FakeKernel kernel_;
    Netlink netlink_{40ms};
};

TEST_F(NetlinkTest, SuccessIsAnAnswer)
{
    answer_with([](const nlmsghdr& at) { return std::vector<Datagram>{acknowledge(at, 0)}; });
    EXPECT_EQ(only_answer().error, 0);
    EXPECT_EQ(only_answer().text, "");
}

TEST_F(NetlinkTest, KeepsTheErrnoAsItIs)
{
    for (const int error : {EPERM, ENOENT, EBUSY, EINVAL, ENOSPC, EOPNOTSUPP, ENOBUFS, 512}) {
        answer_with([=](const nlmsghdr& at) { return std::vector<Datagram>{acknowledge(at, error)}; });
        EXPECT_EQ(only_answer().error, error);
    }
}

TEST_F(NetlinkTest, KeepsTheExtendedText)
{
    for (const bool capped : {true, false})
        for (const int error : {0, EINVAL}) {
            answer_with([=](const nlmsghdr& at) {
                return std::vector<Datagram>{acknowledge(at, error, "HTB class in use", capped)};
            });
            const auto answer = only_answer();
            EXPECT_EQ(answer.error, error);
            EXPECT_EQ(answer.text, "HTB class in use") << capped << error;
        }
}

TEST_F(NetlinkTest, TakesHostileTexts)
{
    const auto with = [&](std::uint16_t flags, const std::function<void(Builder&, const nlmsghdr&)>& more) {
        answer_with([=](const nlmsghdr& at) {
            Builder built(NLMSG_ERROR, flags, at.nlmsg_seq);
            built.put(-EINVAL);
            more(built, at);
            return std::vector<Datagram>{built.get()};
        });
        const auto answer = only_answer();
        EXPECT_EQ(answer.error, EINVAL);
        return answer.text;
    };
    // No NUL at the end.
    EXPECT_EQ(with(NLM_F_ACK_TLVS | NLM_F_CAPPED,
                   [](Builder& b, const nlmsghdr& at) { b.put(at).attribute(NLMSGERR_ATTR_MSG, "abcd", 4); }),
              "");
    // Empty.
    EXPECT_EQ(with(NLM_F_ACK_TLVS | NLM_F_CAPPED,
                   [](Builder& b, const nlmsghdr& at) { b.put(at).attribute(NLMSGERR_ATTR_MSG, "", 0); }),
              "");
    // Longer than the message.
    EXPECT_EQ(with(NLM_F_ACK_TLVS | NLM_F_CAPPED,
                   [](Builder& b, const nlmsghdr& at) {
                       const nlattr head{4000, NLMSGERR_ATTR_MSG};
                       b.put(at).put(head).raw("abc", 4);
                   }),
              "");
    // Not capped, and the request's length is made up.
    for (const std::uint32_t length : {0u, 3u, 15u, 17u, 36u, 5000u, 0x7fffffffu, 0xffffffffu})
        EXPECT_EQ(with(NLM_F_ACK_TLVS,
                       [=](Builder& b, const nlmsghdr& at) {
                           nlmsghdr copy = at;
                           copy.nlmsg_len = length;
                           b.put(copy);
                       }),
                  "")
            << length;
    // No flag, though there is a text.
    EXPECT_EQ(with(NLM_F_CAPPED,
                   [](Builder& b, const nlmsghdr& at) { b.put(at).attribute(NLMSGERR_ATTR_MSG, std::string("x")); }),
              "");
}

TEST_F(NetlinkTest, AnswersComeInTheOrderOfTheMessages)
{
    // The kernel's answers in reverse, many in one datagram.
    std::vector<Datagram> kept;
    int number = 0;
    kernel_.answer = [&](const nlmsghdr& at) {
        kept.push_back(acknowledge(at, ++number));
        if (kept.size() == 5) {
            Datagram all;
            for (auto each = kept.rbegin(); each != kept.rend(); ++each)
                all.insert(all.end(), each->begin(), each->end());
            kernel_.queue.push_back(all);
        }
        return true;
    };
    const auto answers = netlink_.transact(messages(5));
    for (int i = 0; i < 5; ++i)
        EXPECT_EQ(answers[i].error, i + 1);
}

TEST_F(NetlinkTest, SendsMoreThanFitOneSend)
{
    int number = 0;
    answer_with([&](const nlmsghdr& at) { return std::vector<Datagram>{acknowledge(at, ++number % 300)}; });
    const auto answers = netlink_.transact(messages(200));
    ASSERT_EQ(answers.size(), 200u);
    for (int i = 0; i < 200; ++i)
        EXPECT_EQ(answers[i].error, i + 1);
    EXPECT_TRUE(netlink_.transact({}).empty());
}

// The kernel answers refusals unasked; a success is asked for but once in a send.
TEST_F(NetlinkTest, OnlyTheLastSuccessOfASendIsAnswered)
{
    std::vector<bool> asked;
    const auto answers_with_error_at = [&](std::size_t refused) {
        asked.clear();
        kernel_.answer = [&asked, refused, this](const nlmsghdr& at) {
            const bool bad = asked.size() == refused;
            asked.push_back(at.nlmsg_flags & NLM_F_ACK);
            if (bad || asked.back())
                kernel_.queue.push_back(acknowledge(at, bad ? EBUSY : 0));
            return true;
        };
        return netlink_.transact(messages(66));
    };
    for (const std::size_t refused : {0u, 1u, 62u, 63u, 64u, 65u, 100u}) {
        const auto answers = answers_with_error_at(refused);
        ASSERT_EQ(answers.size(), 66u);
        for (std::size_t i = 0; i < answers.size(); ++i)
            EXPECT_EQ(answers[i].error, i == refused ? EBUSY : 0) << i;
    }
    for (std::size_t i = 0; i < asked.size(); ++i)
        EXPECT_EQ(asked[i], i == 63 || i == 65) << i;
    EXPECT_TRUE(kernel_.queue.empty());
}

TEST_F(NetlinkTest, AMessageThatIsTooLongIsNotBuilt)
{
    Message full = message();
    const std::vector<unsigned char> large(200);
    full.put_bytes(TCA_OPTIONS, large.data(), large.size());
    EXPECT_THROW(full.put_bytes(TCA_OPTIONS, large.data(), large.size()), std::length_error);
    EXPECT_THROW(full.put_bytes(TCA_OPTIONS, large.data(), SIZE_MAX), std::length_error);
}

TEST_F(NetlinkTest, NoAnswerIsATimeout)
{
    answer_with([](const nlmsghdr&) { return std::vector<Datagram>{}; });
    const auto start = std::chrono::steady_clock::now();
    const auto error = error_of([&] { only_answer(); });
    EXPECT_EQ(error.refusal(), Refusal::system);
    EXPECT_EQ(error.system_errno(), ETIMEDOUT);
    EXPECT_THAT(error.what(), HasSubstr("40 ms"));
    const auto took = std::chrono::steady_clock::now() - start;
    EXPECT_GE(took, 30ms);
    EXPECT_LT(took, 2s);
}

// What comes all the time, and is no answer, makes the wait no longer.
TEST_F(NetlinkTest, EndlessChatterIsATimeout)
{
    const Datagram of_a_process(1);
    const Datagram of_another_request = acknowledge(*messages(1).front().header(), 0);
    for (const Datagram& chatter : {of_a_process, of_another_request}) {
        kernel_.queue = {chatter};
        kernel_.endless = true;
        answer_with([](const nlmsghdr&) { return std::vector<Datagram>{}; });
        const auto start = std::chrono::steady_clock::now();
        EXPECT_EQ(error_of([&] { only_answer(); }).system_errno(), ETIMEDOUT);
        EXPECT_LT(std::chrono::steady_clock::now() - start, 2s);
    }
    kernel_.queue = {of_a_process};
    EXPECT_EQ(error_of([&] { dumped(); }).system_errno(), ETIMEDOUT);
}

TEST_F(NetlinkTest, OneAnswerOfTwoIsATimeout)
{
    int number = 0;
    answer_with([&](const nlmsghdr& at) {
        return number++ ? std::vector<Datagram>{} : std::vector<Datagram>{acknowledge(at, 0)};
    });
    EXPECT_EQ(error_of([&] { netlink_.transact(messages(2)); }).system_errno(), ETIMEDOUT);
}

Datagram changed(Datagram bytes, std::function<void(nlmsghdr&)> change)
{
    nlmsghdr header;
    std::memcpy(&header, bytes.data(), sizeof header);
    change(header);
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
}

TEST_F(NetlinkTest, WhatIsNoAnswerIsPassedOver)
{
    const auto timeout = [&](std::function<Datagram(const nlmsghdr&)> make) {
        answer_with([=](const nlmsghdr& at) { return std::vector<Datagram>{make(at)}; });
        EXPECT_EQ(error_of([&] { only_answer(); }).system_errno(), ETIMEDOUT);
    };
    // Of another number or type.
    timeout([](const nlmsghdr& at) { return changed(acknowledge(at, 0), [](nlmsghdr& h) { h.nlmsg_seq += 1; }); });
    timeout([](const nlmsghdr& at) { return changed(acknowledge(at, 0), [](nlmsghdr& h) { h.nlmsg_seq -= 1; }); });
    timeout([](const nlmsghdr& at) {
        return changed(acknowledge(at, 0), [](nlmsghdr& h) { h.nlmsg_type = RTM_NEWQDISC; });
    });
    // Of another process.
    timeout([](const nlmsghdr&) { return Datagram(1); });
}

// What is cut off may be any object of a dump, so it must not look like a smaller one.
TEST_F(NetlinkTest, AnAnswerThatIsCutShortIsToldAtOnce)
{
    const auto refused = [&](std::function<Datagram(const nlmsghdr&)> make) {
        answer_with([=](const nlmsghdr& at) { return std::vector<Datagram>{make(at)}; });
        EXPECT_EQ(error_of([&] { only_answer(); }).system_errno(), EPROTO);
    };
    for (const std::uint32_t length : {0u, 20u, 5000u, 0xffffffffu})
        refused([=](const nlmsghdr& at) {
            return changed(acknowledge(at, 0), [=](nlmsghdr& h) { h.nlmsg_len = length; });
        });
    refused([](const nlmsghdr& at) {
        auto all = acknowledge(at, 0);
        all.resize(20);
        return all;
    });
    refused([](const nlmsghdr& at) {
        auto all = acknowledge(at, 0);
        all.resize(5);
        return all;
    });
    answer_with([](const nlmsghdr& at) {
        Datagram cut = object(at.nlmsg_seq);
        cut.resize(cut.size() - 6);
        return std::vector<Datagram>{object(at.nlmsg_seq), cut, done(at.nlmsg_seq)};
    });
    EXPECT_EQ(error_of([&] { dumped(); }).system_errno(), EPROTO);
}

TEST_F(NetlinkTest, AnAnswerCountsOnce)
{
    int number = 0;
    answer_with([&](const nlmsghdr& at) {
        return ++number == 1 ? std::vector<Datagram>{acknowledge(at, 0), acknowledge(at, EPERM)}
                             : std::vector<Datagram>{acknowledge(at, EBUSY)};
    });
    const auto answers = netlink_.transact(messages(2));
    EXPECT_EQ(answers[0].error, 0);
    EXPECT_EQ(answers[1].error, EBUSY);
}

TEST_F(NetlinkTest, AnswersToEarlierMessagesAreDropped)
{
    nlmsghdr late{};
    answer_with([&](const nlmsghdr& at) {
        late = at;
        return std::vector<Datagram>{};
    });
    EXPECT_THROW(only_answer(), Error);
    kernel_.queue.push_back(acknowledge(late, EPERM));
    answer_with([&](const nlmsghdr& at) { return std::vector<Datagram>{acknowledge(at, 0)}; });
    EXPECT_EQ(only_answer().error, 0);
    kernel_.queue.push_back(acknowledge(late, EPERM));
    answer_with([&](const nlmsghdr& at) { return std::vector<Datagram>{object(at.nlmsg_seq), done(at.nlmsg_seq)}; });
    EXPECT_EQ(dumped().size(), 1u);
}

TEST_F(NetlinkTest, AnErrnoOfAnotherSignIsAnError)
{
    answer_with([](const nlmsghdr& at) {
        return std::vector<Datagram>{Builder(NLMSG_ERROR, 0, at.nlmsg_seq).put(5).put(at).get()};
    });
    EXPECT_NE(only_answer().error, 0);
}

// The sign of the smallest int cannot be turned.
TEST_F(NetlinkTest, TheSmallestErrnoIsAnError)
{
    answer_with([](const nlmsghdr& at) {
        return std::vector<Datagram>{Builder(NLMSG_ERROR, 0, at.nlmsg_seq).put(INT32_MIN).put(at).get()};
    });
    EXPECT_NE(only_answer().error, 0);
    answer_with([](const nlmsghdr& at) { return std::vector<Datagram>{done(at.nlmsg_seq, INT32_MIN)}; });
    EXPECT_THROW(dumped(), Error);
}

TEST_F(NetlinkTest, TellsWhatTheSocketSays)
{
    kernel_.send_error = EPERM;
    EXPECT_EQ(error_of([&] { only_answer(); }).system_errno(), EPERM);
    kernel_.heal();
    answer_with([](const nlmsghdr&) { return std::vector<Datagram>{}; });
    kernel_.receive_error = ENOBUFS;
    const auto error = error_of([&] { only_answer(); });
    EXPECT_EQ(error.system_errno(), ENOBUFS);
    EXPECT_THAT(error.what(), HasSubstr("receive"));
    kernel_.connect_error = EMFILE;
    EXPECT_EQ(error_of([] { Netlink another; }).system_errno(), EMFILE);
}

TEST_F(NetlinkTest, DumpsInSeveralDatagrams)
{
    answer_with([](const nlmsghdr& at) {
        Datagram two = object(at.nlmsg_seq);
        two.insert(two.end(), two.begin(), two.end());
        return std::vector<Datagram>{two, object(at.nlmsg_seq), object(at.nlmsg_seq + 1), done(at.nlmsg_seq)};
    });
    EXPECT_EQ(dumped().size(), 3u);
}

TEST_F(NetlinkTest, DumpsAgainWhenItWasInterrupted)
{
    int attempt = 0;
    answer_with([&](const nlmsghdr& at) {
        ++attempt;
        const auto flags = static_cast<std::uint16_t>(NLM_F_MULTI | (attempt < 4 ? NLM_F_DUMP_INTR : 0));
        std::vector<Datagram> all(attempt, object(at.nlmsg_seq));
        all.push_back(done(at.nlmsg_seq, 0, flags));
        return all;
    });
    EXPECT_EQ(dumped().size(), 4u);
    EXPECT_EQ(attempt, 4);
}

TEST_F(NetlinkTest, GivesUpADumpThatIsAlwaysInterrupted)
{
    int attempts = 0;
    answer_with([&](const nlmsghdr& at) {
        ++attempts;
        return std::vector<Datagram>{object(at.nlmsg_seq, NLM_F_MULTI | NLM_F_DUMP_INTR), done(at.nlmsg_seq)};
    });
    EXPECT_EQ(error_of([&] { dumped(); }).system_errno(), EAGAIN);
    EXPECT_LT(attempts, 100);
}

TEST_F(NetlinkTest, GivesUpADumpWithoutEnd)
{
    Datagram large(1 << 20);
    kernel_.queue = {changed(large, [&](nlmsghdr& h) { h.nlmsg_len = static_cast<std::uint32_t>(large.size()); })};
    kernel_.endless = true;
    kernel_.answer = [](const nlmsghdr&) { return true; };
    Netlink patient(1min);
    tcmsg header{};
    Message request(RTM_GETQDISC, NLM_F_DUMP, header);
    EXPECT_EQ(error_of([&] { patient.dump(request, [](const nlmsghdr&) {}); }).system_errno(), EMSGSIZE);
}

TEST_F(NetlinkTest, TellsARefusedDump)
{
    answer_with([](const nlmsghdr& at) { return std::vector<Datagram>{acknowledge(at, EPERM)}; });
    EXPECT_EQ(error_of([&] { dumped(); }).system_errno(), EPERM);
    answer_with([](const nlmsghdr& at) {
        return std::vector<Datagram>{object(at.nlmsg_seq), done(at.nlmsg_seq, -ENOMEM)};
    });
    EXPECT_EQ(error_of([&] { dumped(); }).system_errno(), ENOMEM);
    answer_with([](const nlmsghdr& at) { return std::vector<Datagram>{object(at.nlmsg_seq)}; });
    EXPECT_EQ(error_of([&] { dumped(); }).system_errno(), ETIMEDOUT);
    answer_with([](const nlmsghdr& at) {
        return std::vector<Datagram>{Builder(NLMSG_ERROR, NLM_F_ACK_TLVS | NLM_F_CAPPED, at.nlmsg_seq)
                                         .put(-EPERM)
                                         .put(at)
                                         .attribute(NLMSGERR_ATTR_MSG, "no", 3)
                                         .get()};
    });
    EXPECT_THAT(error_of([&] { dumped(); }).what(), HasSubstr("no (Operation not permitted)"));
}

TEST_F(NetlinkTest, ADoneWithoutABodyIsTheEnd)
{
    answer_with(
        [](const nlmsghdr& at) { return std::vector<Datagram>{Builder(NLMSG_DONE, NLM_F_MULTI, at.nlmsg_seq).get()}; });
    EXPECT_TRUE(dumped().empty());
}

TEST(KernelError, HasTheTextAndTheErrno)
{
    const auto error = kernel_error("tc class del", {EBUSY, "HTB class in use"});
    EXPECT_STREQ(error.what(), "tc class del: HTB class in use (Device or resource busy)");
    EXPECT_EQ(error.system_errno(), EBUSY);
    EXPECT_STREQ(kernel_error("it", {ENOENT, ""}).what(), "it: No such file or directory");
}

TEST(Attributes, OfAShortMessageAreNone)
{
    auto bytes = Builder(RTM_NEWQDISC, 0, 1).put(std::uint32_t{0}).get();
    nlmsghdr header;
    std::memcpy(&header, bytes.data(), sizeof header);
    EXPECT_FALSE(attributes(*reinterpret_cast<nlmsghdr*>(bytes.data()), sizeof(tcmsg), TCA_MAX));
    EXPECT_FALSE(text(nullptr));
}

} // namespace
} // namespace virfloor::tc
