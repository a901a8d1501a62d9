//! XML from strangers: a small tree of elements, attributes and text, or a refusal.
//!
//! Promises: time and memory in proportion to the text, which is bounded; no document type, so no
//! entity but the five of XML and character references; a bounded depth and number of elements.
//! Must never: fetch anything, or trust a name to be the only one of its kind.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// Longer answers are refused. A recorder of 64 channels describes all of its profiles in half.
pub const MAX_BYTES: usize = 1 << 20;
/// Elements in a document.
pub(super) const MAX_ELEMENTS: usize = 20_000;
/// Elements within each other. ONVIF needs about 12.
pub(super) const MAX_DEPTH: usize = 48;
/// Attributes of an element that are looked at: `token` comes early or not at all.
const MAX_ATTRIBUTES: usize = 32;

/// Why a text is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// It is not well-formed.
    #[error("is not XML")]
    Malformed,
    /// It has a document type: nothing of SOAP does, and entities are how parsers are blown up.
    #[error("has a document type, which SOAP forbids")]
    DocType,
    /// It is over one of the limits.
    #[error("has too many elements, or too deep ones")]
    TooLarge,
}

/// One element. Names are without their prefixes: devices disagree about namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    attributes: Vec<(String, String)>,
    text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The children of this name.
    pub fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Down a path of children, the first of each name.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter()
            .try_fold(self, |element, name| element.child(name))
    }

    /// The first element of this name among all below, this one included.
    pub fn find(&self, name: &str) -> Option<&Element> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Its own text, without white space around it.
    pub fn text(&self) -> &str {
        self.text.trim()
    }

    /// The text at the end of a path; `None` where there is none.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path).map(Element::text).filter(|t| !t.is_empty())
    }
}

/// The root element of a document.
///
/// # Errors
/// See [`XmlError`].
pub fn parse(text: &str) -> Result<Element, XmlError> {
    if text.len() > MAX_BYTES {
        return Err(XmlError::TooLarge);
    }
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut count = 0;
    loop {
        let event = reader.read_event().map_err(|_| XmlError::Malformed)?;
        match event {
            Event::Start(start) => {
                count += 1;
                if count > MAX_ELEMENTS || open.len() >= MAX_DEPTH {
                    return Err(XmlError::TooLarge);
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => {
                count += 1;
                if count > MAX_ELEMENTS {
                    return Err(XmlError::TooLarge);
                }
                close(element(&start)?, &mut open, &mut root)?;
            }
            Event::End(_) => {
                let done = open.pop().ok_or(XmlError::Malformed)?;
                close(done, &mut open, &mut root)?;
            }
            Event::Text(text) => push(&mut open, &text.xml_content(XmlVersion::Implicit1_0)),
            Event::CData(text) => push(&mut open, &text.xml_content(XmlVersion::Implicit1_0)),
            Event::GeneralRef(reference) => {
                let c = match reference.resolve_char_ref() {
                    Ok(Some(c)) => c,
                    Ok(None) => predefined(&reference).ok_or(XmlError::Malformed)?,
                    Err(_) => return Err(XmlError::Malformed),
                };
                push(&mut open, c.encode_utf8(&mut [0; 4]));
            }
            Event::DocType(_) => return Err(XmlError::DocType),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    match (root, open.is_empty()) {
        (Some(root), true) => Ok(root),
        _ => Err(XmlError::Malformed),
    }
}

fn push(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn close(done: Element, open: &mut [Element], root: &mut Option<Element>) -> Result<(), XmlError> {
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None if root.is_none() => *root = Some(done),
        None => return Err(XmlError::Malformed),
    }
    Ok(())
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        _ => return None,
    })
}

fn element(start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut element = Element {
        name: start.local_name().as_ref().to_owned(),
        ..Element::default()
    };
    let mut attributes = start.attributes();
    // Looking for doubles costs the square of their number.
    attributes.with_checks(false);
    for attribute in attributes.take(MAX_ATTRIBUTES) {
        let attribute = attribute.map_err(|_| XmlError::Malformed)?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|_| XmlError::Malformed)?;
        let name = attribute.key.local_name().as_ref().to_owned();
        element.attributes.push((name, value.into_owned()));
    }
    Ok(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_do_not_matter_and_text_is_decoded() {
        let text = "<?xml version=\"1.0\"?><!-- x --><s:Envelope xmlns:s='u'><s:Body a:token=\"1&amp;2\">\
                    <Uri> rtsp://h/?a=1&amp;b=&#x32;<![CDATA[<&]]> </Uri><Empty/></s:Body></s:Envelope>";
        let root = parse(text).unwrap();
        assert_eq!(root.name, "Envelope");
        let body = root.child("Body").unwrap();
        assert_eq!(body.attribute("token"), Some("1&2"));
        assert_eq!(root.text_at(&["Body", "Uri"]), Some("rtsp://h/?a=1&b=2<&"));
        assert_eq!(root.text_at(&["Body", "Empty"]), None);
        assert!(root.find("Empty").is_some() && root.find("Other").is_none());
    }

    #[test]
    fn bombs_are_refused_and_cost_nothing() {
        let lol = "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>";
        assert_eq!(parse(lol), Err(XmlError::DocType));
        assert_eq!(
            parse("<!DOCTYPE l SYSTEM \"file:///etc/passwd\"><l/>"),
            Err(XmlError::DocType)
        );
        assert_eq!(parse("<l>&unknown;</l>"), Err(XmlError::Malformed));
        assert_eq!(parse(&"<a>".repeat(300_000)), Err(XmlError::TooLarge));
        assert_eq!(
            parse(&format!("<l>{}</l>", "<a/>".repeat(100_000))),
            Err(XmlError::TooLarge)
        );
        assert_eq!(
            parse(&format!("<l>{}</l>", "x".repeat(MAX_BYTES))),
            Err(XmlError::TooLarge)
        );
        // Half a megabyte of attributes: read in passing.
        let attributes: String = (0..40_000).map(|n| format!(" a{n}=\"1\"")).collect();
        let element = parse(&format!("<l{attributes}/>")).unwrap();
        assert_eq!(element.attributes.len(), MAX_ATTRIBUTES);
    }

    #[test]
    fn broken_text_is_refused() {
        for text in [
            "",
            "x",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a b=c/>",
            "<a b='",
            "<a>&#xD800;</a>",
            "\u{feff}",
            "<",
            "<!",
            "<![CDATA[",
            "<a>&lt</a>",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
