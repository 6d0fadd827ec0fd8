// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/xml.h"

#include "support.h"
#include "virfloor/network_xml.h"
#include "xml_text.h"

#include <libxml/parser.h>
#include <libxml/parserInternals.h>

namespace virfloor::test {
namespace {

using testing::HasSubstr;

// Counts what libxml2 would load from elsewhere.
int loads = 0;

class XmlSafety : public testing::Test {
protected:
    void SetUp() override
    {
        loads = 0;
        usual_ = xmlGetExternalEntityLoader();
        xmlSetExternalEntityLoader([](const char*, const char*, xmlParserCtxtPtr) -> xmlParserInputPtr {
            ++loads;
            return nullptr;
        });
        write_text(secret(), "the secret");
    }
    void TearDown() override
    {
        xmlSetExternalEntityLoader(usual_);
        EXPECT_EQ(loads, 0);
    }
    std::filesystem::path secret() const { return directory_.path() / "secret"; }
    std::string refusal(const std::string& text) const
    {
        const auto error = error_of([&] { XmlDocument::parse(text, "network"); });
        EXPECT_EQ(error.refusal(), Refusal::invalid_xml);
        EXPECT_THAT(error.what(), testing::Not(HasSubstr("the secret")));
        return error.what();
    }

private:
    TemporaryDirectory directory_;
    xmlExternalEntityLoader usual_ = nullptr;
};

TEST_F(XmlSafety, RefusesADocumentType)
{
    EXPECT_THAT(refusal("<!DOCTYPE network><network/>"), HasSubstr("document type"));
    EXPECT_THAT(refusal("<!DOCTYPE network SYSTEM 'file://" + secret().string() + "'><network/>"),
                HasSubstr("document type"));
    refusal("<!DOCTYPE network [<!ELEMENT network ANY>]><network/>");
}

TEST_F(XmlSafety, ReadsNoFileForAnEntity)
{
    refusal("<!DOCTYPE network [<!ENTITY x SYSTEM 'file://" + secret().string() +
            "'>]><network><name>&x;</name></network>");
    refusal("<!DOCTYPE network [<!ENTITY % x SYSTEM 'file://" + secret().string() +
            "'> %x;]><network><name/></network>");
    refusal("<!DOCTYPE network [<!ENTITY x SYSTEM 'http://127.0.0.1:9/x'>]><network a='&x;'/>");
}

TEST_F(XmlSafety, IncludesNothing)
{
    const auto document =
        XmlDocument::parse("<network xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include parse='text' href='" +
                               secret().string() + "'/></network>",
                           "network");
    EXPECT_THAT(document.text(), testing::Not(HasSubstr("the secret")));
}

TEST_F(XmlSafety, SurvivesABillionLaughs)
{
    std::string text = "<!DOCTYPE network [<!ENTITY l0 'ha'>";
    for (int i = 1; i < 30; ++i) {
        const std::string before = "&l" + std::to_string(i - 1) + ";";
        text += "<!ENTITY l" + std::to_string(i) + " '";
        for (int j = 0; j < 10; ++j)
            text += before;
        text += "'>";
    }
    EXPECT_THAT(refusal(text + "]><network><name>&l29;</name></network>"), HasSubstr("document type"));
    EXPECT_THAT(refusal(text + "]><network name='&l29;'/>"), HasSubstr("document type"));
}

// The document type is refused before what it declares is read.
TEST_F(XmlSafety, ReadsNoDeclarations)
{
    EXPECT_THAT(refusal("<!DOCTYPE network [<!ENTITY a '1'> not well-formed"), HasSubstr("document type"));
    std::string entity = "<!DOCTYPE network [<!ENTITY a '" + std::string(max_xml_size / 2, 'x') + "'>]><network a='";
    while (entity.size() < max_xml_size - 100)
        entity += "&a;";
    EXPECT_THAT(refusal(entity + "'/>"), HasSubstr("document type"));
}

std::string with_attributes(int count, const std::string& start = " a", const std::string& value = "''")
{
    std::string text = "<network";
    for (int i = 0; i < count; ++i)
        text += start + std::to_string(i) + "=" + value;
    return text + "/>";
}

// libxml2's time for them grows with the square of their number.
TEST_F(XmlSafety, RefusesManyAttributesOfOneElement)
{
    EXPECT_THAT(refusal(with_attributes(300'000)), HasSubstr("attributes"));
    EXPECT_THAT(refusal(with_attributes(100'000, " xmlns:a", "\"u\"")), HasSubstr("attributes"));
    EXPECT_THAT(refusal(with_attributes(257)), HasSubstr("more than 256"));
    EXPECT_NO_THROW(XmlDocument::parse(with_attributes(256), "network"));
    // '>' may stand in a value.
    EXPECT_THAT(refusal(with_attributes(257, " a", "'>'")), HasSubstr("more than 256"));
    EXPECT_THAT(refusal("<network><!-- ' --><?x '?><![CDATA['<!--]]>" + with_attributes(257) + "</network>"),
                HasSubstr("more than 256"));
}

TEST_F(XmlSafety, CountsAttributesAlone)
{
    const std::string quotes(1000, '\''), doubles(1000, '"');
    for (const std::string& text : {quotes + doubles, "<!--" + quotes + "-->", "<![CDATA[" + doubles + "]]>",
                                    "<?x " + quotes + "?>", "<a b=\"" + quotes + "\" c='" + doubles + "'/>"})
        EXPECT_NO_THROW(XmlDocument::parse("<network>" + text + "</network>", "network")) << text;
}

// What is looked at and what libxml2 reads are the same text.
TEST_F(XmlSafety, ReadsUtf8WhateverTheTextSaysOfItself)
{
    const auto parsed = [](const std::string& encoding, const std::string& name) {
        return parse_network("<?xml version='1.0' encoding='" + encoding + "'?><network><name>" + name +
                             "</name></network>")
            .name;
    };
    EXPECT_EQ(parsed("ISO-8859-1", "n\xc3\xa4"), "n\xc3\xa4");
    EXPECT_EQ(parsed("UTF-7", "+ADw-"), "+ADw-");
    EXPECT_EQ(parsed("UTF-16", "n"), "n");
    EXPECT_EQ(parsed("x-none", "n"), "n");
    EXPECT_REFUSED(invalid_xml, parsed("ISO-8859-1", "n\xe4"));
    refusal(std::string("<\0n\0e\0t\0w\0o\0r\0k\0/\0>\0", 20));
    refusal("\x4c\x95\x85\xa3\xa6\x96\x99\x92\x61\x6e"); // <network/> in EBCDIC
}

TEST_F(XmlSafety, RefusesWhatIsTooLarge)
{
    const std::string text = "<network>" + std::string(max_xml_size, ' ') + "</network>";
    EXPECT_THAT(refusal(text), HasSubstr(std::to_string(text.size())));
    EXPECT_NO_THROW(XmlDocument::parse("<network/>", "network", 10));
    EXPECT_REFUSED(invalid_xml, XmlDocument::parse("<network/>", "network", 9));
}

TEST_F(XmlSafety, RefusesAnotherRoot)
{
    EXPECT_THAT(refusal("<domain/>"), HasSubstr("domain"));
    refusal("<Network/>");
}

TEST_F(XmlSafety, RefusesBrokenText)
{
    for (const char* text : {"", " ", "network", "<network>", "<network></Network>", "<network/><network/>", "<network",
                             "<network a=b/>", "<network a='1' a='2'/>", "\xff\xfe<network/>",
                             "<network>\x01</network>", "<network>\xc3\x28</network>", "<network>&nope;</network>"})
        EXPECT_NE(refusal(text), "") << text;
    EXPECT_THAT(refusal("<network>\n<name>\n</network>"), HasSubstr("line 3"));
    refusal(std::string("<network>\0</network>", 20));
}

TEST_F(XmlSafety, DeepNestingIsRefusedOrSurvived)
{
    std::string open, close;
    for (int i = 0; i < 100000; ++i) {
        open += "<a>";
        close += "</a>";
    }
    refusal("<network>" + open + close + "</network>");
}

TEST(Xml, FindsElementsAndAttributes)
{
    const auto document =
        XmlDocument::parse("<a one='1' two='&lt;&amp;'><!--c--><b>t&gt;</b>text<c/><b>second</b></a>", "a");
    xmlNode* root = document.root();
    EXPECT_EQ(children(root).size(), 3u);
    EXPECT_EQ(content(child(root, "b")), "t>");
    EXPECT_EQ(content(child(root, "c")), "");
    EXPECT_EQ(child(root, "d"), nullptr);
    EXPECT_EQ(attribute(root, "one"), "1");
    EXPECT_EQ(attribute(root, "two"), "<&");
    EXPECT_FALSE(attribute(root, "three"));
    EXPECT_FALSE(attribute(nullptr, "one"));
    EXPECT_FALSE(content(nullptr));
    EXPECT_TRUE(children(nullptr).empty());
    EXPECT_FALSE(has_name(nullptr, "a"));
    set_attribute(root, "one", "2'");
    remove_attribute(root, "two");
    remove(child(root, "b"));
    EXPECT_EQ(document.text(), "<a one=\"2'\"><!--c-->text<c/><b>second</b></a>");
}

TEST(Xml, ReadsNumbers)
{
    EXPECT_EQ(parse_number("0"), 0u);
    EXPECT_EQ(parse_number("18446744073709551615"), UINT64_MAX);
    for (const char* text : {"", "18446744073709551616", "-0", "+1", " 1", "1 ", "1a", "0x1"})
        EXPECT_FALSE(parse_number(text)) << text;
}

TEST(Xml, EscapesTheFive)
{
    EXPECT_EQ(escape_xml("a&<>'\"b\xc3\xa4"), "a&amp;&lt;&gt;&apos;&quot;b\xc3\xa4");
    const std::string hostile = "x' y='&<\">";
    const auto document = XmlDocument::parse("<a b='" + escape_xml(hostile) + "'/>", "a");
    EXPECT_EQ(attribute(document.root(), "b"), hostile);
}

TEST(ReplaceElement, PutsLinesBeforeTheFirstThatIsNamed)
{
    EXPECT_EQ(replace_element("<r>\n  <a/>\n  <z/>\n  <b/>\n</r>\n", "r", "n", {"b", "z"}, "  <n/>\n"),
              "<r>\n  <a/>\n  <n/>\n  <z/>\n  <b/>\n</r>\n");
    EXPECT_EQ(replace_element("<r>\n  <a/>\n</r>\n", "r", "n", {"b"}, "  <n/>\n"), "<r>\n  <a/>\n  <n/>\n</r>\n");
}

TEST(ReplaceElement, RefusesTextOfAnotherForm)
{
    const auto refused = [](const std::string& text) {
        EXPECT_REFUSED(invalid_xml, replace_element(text, "r", "n", {"b"}, "  <n/>\n")) << text;
    };
    refused("<r><n/></r>");
    refused("<r>\n<n/>\n</r>\n");
    refused("<r>\n  <b/><n/>\n</r>\n");
    refused("<r>\n  <n>\n    <x/></n>\n</r>\n");
    refused("<r>\n  <n>x</n></r>");
    refused("<r>\n  <n>text/>\n  </n>\n</r>\n");
    refused("<r>\n  <n>\n  </n>text\n  <n>\n  </n>\n</r>\n");
    refused("<r><r>\n</r></r>");
    refused("<r>\n</r><!-- -->");
    refused("<r/>");
    refused("<r>\n  <a/></r>");
    refused("<r>\n<b/>\n</r>\n");
    refused("<other>\n</other>\n");
}

} // namespace
} // namespace virfloor::test
