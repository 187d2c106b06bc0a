//! The house rules that a machine can check, as tests: CONTRIBUTING.md says why they are there.
//!
//! Each rule is a function from files to findings, so that the last test can show of every rule that it
//! finds what it forbids. Formatting, function length and lints are left to rustfmt and clippy.

#[cfg(test)]
mod tidy {
    use std::path::{Path, PathBuf};

    /// A text file of the repository.
    struct File {
        /// From the root, with `/`.
        path: String,
        text: String,
        /// Whether all of it is test.
        test: bool,
    }

    /// Most lines of a file before its tests, and with them.
    const CODE_LINES_MAX: usize = 500;
    const FILE_LINES_MAX: usize = 600;

    /// Most packages in Cargo.lock: each one is code that somebody else can change.
    const PACKAGES_MAX: usize = 620;

    /// The pure crates and the pure parts of others: a function of their inputs.
    const PURE: &[&str] = &[
        "types/src",
        "mempool/src",
        "consensus/src",
        "settlement/src/batcher",
        "settlement/src/poster/fees",
        "settlement/src/poster/machine",
        "settlement/src/poster/words",
        "evm/src/chain",
        "evm/src/l1",
        "sequencer/src/core",
    ];

    /// What a pure crate may import. The shell and the client may import more, but of ours only what [`OURS`] says.
    const PURE_DEPENDENCIES: &[(&str, &[&str])] = &[
        (
            "types",
            &["alloy-primitives", "alloy-rlp", "ed25519-dalek", "thiserror"],
        ),
        ("mempool", &["fusion-types", "alloy-primitives", "thiserror"]),
        (
            "consensus",
            &[
                "fusion-types",
                "alloy-primitives",
                "alloy-rlp",
                "arc-malachitebft-core-consensus",
                "arc-malachitebft-core-types",
                "ed25519-dalek",
                "thiserror",
                "tracing",
            ],
        ),
    ];

    /// The edges between our crates: they point down only, and siblings do not know each other.
    const OURS: &[(&str, &[&str])] = &[
        ("types", &[]),
        ("mempool", &["fusion-types"]),
        ("consensus", &["fusion-types"]),
        ("settlement", &["fusion-types"]),
        ("client", &["fusion-types"]),
        ("evm", &[]),
        (
            "sequencer",
            &[
                "fusion-types",
                "fusion-mempool",
                "fusion-consensus",
                "fusion-client",
                "fusion-evm",
                "fusion-settlement",
            ],
        ),
        (
            "fuzz",
            &[
                "fusion-types",
                "fusion-mempool",
                "fusion-consensus",
                "fusion-client",
                "fusion-sequencer",
            ],
        ),
        (
            "deploy/chaos/attacker",
            &["fusion-types", "fusion-consensus", "fusion-client", "fusion-sequencer"],
        ),
    ];

    /// What a crate may import of ours for its tests alone: the poster is tried on an L1.
    const OURS_IN_TESTS: &[(&str, &[&str])] = &[("settlement", &["fusion-evm"])];

    /// Workspaces of their own, which test the house: nothing in it depends on them.
    const APART: &[&str] = &["sim", "fuzz"];

    /// Names with one home: in the sources below a folder, at most one file says them.
    const SINGLE_HOMES: &[(&str, &str)] = &[
        ("sequencer/src", "sled::"),
        ("sequencer/src", "quinn::"),
        ("sequencer/src", "quinn_proto::"),
        ("sequencer/src", "prometheus::"),
        ("consensus/src", "process!"),
    ];

    /// Words that no code of ours has outside of tests.
    const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", ".unwrap()"];

    /// Words that make a result depend on more than its inputs.
    const IMPURE: &[&str] = &[
        "HashMap",
        "HashSet",
        "Instant::now",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net",
        "std::env",
        "tokio::",
        "async fn",
        "rand::",
        "getrandom",
    ];

    fn root() -> PathBuf {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        manifest
            .parent()
            .expect("the crate lies in the workspace")
            .to_path_buf()
    }

    /// Names of what holds no source: hidden, or built.
    fn is_skipped(name: &str) -> bool {
        (name.starts_with('.') && name != ".ci" && name != ".github") || name == "target"
    }

    fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if is_skipped(&name) {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                walk(&entry.path(), &format!("{path}/"), files);
            } else if kind.is_file()
                && let Ok(text) = std::fs::read_to_string(entry.path())
            {
                files.push(File::new(path, text));
            }
        }
    }

    fn files() -> Vec<File> {
        let mut files = Vec::new();
        walk(&root(), "", &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let modules: Vec<String> = files.iter().flat_map(File::test_modules).collect();
        for file in &mut files {
            file.test |= modules.iter().any(|module| is_below(&file.path, module));
        }
        files
    }

    fn top_folders() -> Vec<String> {
        let entries = std::fs::read_dir(root()).unwrap().map(Result::unwrap);
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        let names = folders.map(|entry| entry.file_name().into_string().unwrap());
        names
            .filter(|name| !name.starts_with('.') && name != "target")
            .collect()
    }

    impl File {
        fn new(path: String, text: String) -> Self {
            let test = path.split('/').any(|part| part == "tests" || part == "tests.rs");
            Self { path, text, test }
        }

        fn is_rust(&self) -> bool {
            self.path.ends_with(".rs")
        }

        /// Its modules that are test as a whole: `#[cfg(test)] mod name;`.
        fn test_modules(&self) -> Vec<String> {
            let folder = self.path.trim_end_matches("lib.rs").trim_end_matches("main.rs");
            let folder = folder.strip_suffix(".rs").unwrap_or(folder).trim_end_matches('/');
            let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
            let gated = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
            let names = gated.filter_map(|pair| pair[1].strip_suffix(';')?.split("mod ").nth(1));
            names.map(|name| format!("{folder}/{name}")).collect()
        }

        /// Its lines before the tests at its end.
        fn code(&self) -> impl Iterator<Item = (usize, &str)> {
            let lines: Vec<&str> = self.text.lines().collect();
            let tests = lines
                .windows(2)
                .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{'));
            let end = if self.test { 0 } else { tests.unwrap_or(lines.len()) };
            (1..).zip(lines).take(end)
        }

        /// The lines of code, without comments, that hold one of `words`.
        fn lines_with(&self, words: &[&str]) -> Vec<String> {
            let without_comment = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
            let code = self.code().map(|(number, line)| (number, without_comment(line)));
            let mut found = Vec::new();
            for (number, line) in code {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    found.push(format!("{}:{number}: {word}", self.path));
                }
            }
            found
        }
    }

    fn is_below(path: &str, folder: &str) -> bool {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    }

    fn opens_without_module_doc(files: &[File]) -> Vec<String> {
        let rust = files.iter().filter(|file| file.is_rust());
        let silent = rust.filter(|file| !file.text.starts_with("//! "));
        silent.map(|file| file.path.clone()).collect()
    }

    fn is_too_long(files: &[File]) -> Vec<String> {
        let mut found = Vec::new();
        for file in files.iter().filter(|file| file.is_rust()) {
            let (code, all) = (file.code().count(), file.text.lines().count());
            if code > CODE_LINES_MAX || all > FILE_LINES_MAX {
                found.push(format!("{}: {code} lines of code, {all} in all", file.path));
            }
        }
        found
    }

    fn is_unfinished(files: &[File]) -> Vec<String> {
        let rust = files.iter().filter(|file| file.is_rust());
        rust.flat_map(|file| file.lines_with(UNFINISHED)).collect()
    }

    fn ignores_tests(files: &[File]) -> Vec<String> {
        let word = concat!("#[", "ignore");
        let rust = files.iter().filter(|file| file.is_rust());
        let ignoring = rust.filter(|file| file.text.lines().any(|line| line.trim_start().starts_with(word)));
        ignoring.map(|file| file.path.clone()).collect()
    }

    fn is_impure(files: &[File]) -> Vec<String> {
        let is_pure = |file: &&File| file.is_rust() && PURE.iter().any(|folder| is_below(&file.path, folder));
        files
            .iter()
            .filter(is_pure)
            .flat_map(|file| file.lines_with(IMPURE))
            .collect()
    }

    fn has_several_homes(files: &[File]) -> Vec<String> {
        let mut found = Vec::new();
        for (folder, word) in SINGLE_HOMES {
            let below = files
                .iter()
                .filter(|file| file.is_rust() && is_below(&file.path, folder));
            let homes: Vec<&str> = below
                .filter(|file| !file.lines_with(&[word]).is_empty())
                .map(|file| file.path.as_str())
                .collect();
            if homes.len() > 1 {
                found.push(format!("{word} is named in {}", homes.join(", ")));
            }
        }
        found
    }

    fn is_mod_rs(files: &[File]) -> Vec<String> {
        let named = files
            .iter()
            .filter(|file| file.path.ends_with("/mod.rs") || file.path == "mod.rs");
        named.map(|file| file.path.clone()).collect()
    }

    /// Names of the packages in `section` of a Cargo.toml.
    fn dependencies(manifest: &toml::Table, section: &str) -> Vec<String> {
        let table = manifest.get(section).and_then(toml::Value::as_table);
        table.into_iter().flat_map(|table| table.keys().cloned()).collect()
    }

    fn has_forbidden_edge(files: &[File]) -> Vec<String> {
        let mut found = Vec::new();
        for file in files {
            let Some(folder) = file.path.strip_suffix("/Cargo.toml") else {
                continue;
            };
            if APART.iter().any(|apart| folder == *apart || is_below(folder, apart)) {
                continue;
            }
            let manifest: toml::Table = file.text.parse().unwrap();
            let of = |list: &[(&str, &'static [&'static str])]| {
                let entry = list.iter().find(|(name, _)| *name == folder);
                entry.map(|(_, allowed)| *allowed)
            };
            let Some(ours) = of(OURS) else {
                found.push(format!("{folder} is a crate without a place in the house"));
                continue;
            };
            for name in dependencies(&manifest, "dependencies") {
                let foreign = of(PURE_DEPENDENCIES).is_some_and(|allowed| !allowed.contains(&name.as_str()));
                if foreign || (name.starts_with("fusion-") && !ours.contains(&name.as_str())) {
                    found.push(format!("{folder} imports {name}"));
                }
            }
            for name in ["dev-dependencies", "build-dependencies"]
                .iter()
                .flat_map(|s| dependencies(&manifest, s))
            {
                let tested = of(OURS_IN_TESTS).is_some_and(|allowed| allowed.contains(&name.as_str()));
                if name.starts_with("fusion-") && !ours.contains(&name.as_str()) && !tested {
                    found.push(format!("{folder} imports {name} for its tests"));
                }
            }
            let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
            // A workspace of its own has nothing to take them from.
            let alone = manifest.contains_key("workspace");
            if !alone && lints.and_then(toml::Value::as_bool) != Some(true) {
                found.push(format!("{folder} does not take the workspace's lints"));
            }
        }
        found
    }

    fn has_features(files: &[File]) -> Vec<String> {
        let manifests = files.iter().filter(|file| file.path.ends_with("/Cargo.toml"));
        let with = manifests.filter(|file| file.text.lines().any(|line| line.trim() == "[features]"));
        with.map(|file| file.path.clone()).collect()
    }

    fn locks_too_much(files: &[File]) -> Vec<String> {
        let lock = files.iter().filter(|file| file.path == "Cargo.lock");
        let counts = lock.map(|file| file.text.lines().filter(|line| *line == "[[package]]").count());
        let over = counts.filter(|count| *count > PACKAGES_MAX);
        over.map(|count| format!("{count} packages in Cargo.lock")).collect()
    }

    /// Packages that deny.toml bans, and packages from elsewhere than the one registry.
    fn locks_what_is_banned(files: &[File]) -> Vec<String> {
        let table = |path: &str| {
            let file = files.iter().find(|file| file.path == path);
            file.map(|file| file.text.parse::<toml::Table>().unwrap())
        };
        let (Some(lock), Some(deny)) = (table("Cargo.lock"), table("deny.toml")) else {
            return vec!["Cargo.lock or deny.toml is missing".into()];
        };
        let bans: Vec<&str> = deny["bans"]["deny"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|ban| ban["crate"].as_str())
            .collect();
        let registry = "registry+https://github.com/rust-lang/crates.io-index";
        let mut found = Vec::new();
        for package in lock["package"].as_array().into_iter().flatten() {
            let name = package["name"].as_str().unwrap_or_default();
            if bans.contains(&name) {
                found.push(format!("{name} is banned by deny.toml"));
            }
            let source = package.get("source").map(|source| source.as_str().unwrap_or_default());
            if source.is_some_and(|source| source != registry) {
                found.push(format!("{name} comes from {}", source.unwrap_or_default()));
            }
        }
        found
    }

    fn names_a_machine(files: &[File]) -> Vec<String> {
        let places = [
            concat!("/ho", "me/"),
            concat!("/Us", "ers/"),
            concat!("/ro", "ot/"),
            concat!("/wo", "rk/"),
            concat!("C:", "\\"),
        ];
        let mut found = Vec::new();
        for file in files {
            for (number, line) in (1..).zip(file.text.lines()) {
                for place in places.iter().filter(|place| line.contains(**place)) {
                    found.push(format!("{}:{number}: {place}", file.path));
                }
            }
        }
        found
    }

    fn is_not_in_the_map(files: &[File], folders: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for map in ["README.md", "ARCHITECTURE.md"] {
            let text = files.iter().find(|file| file.path == map).map(|file| &file.text);
            let missing = folders
                .iter()
                .filter(|folder| !text.is_some_and(|text| text.contains(&format!("{folder}/"))));
            found.extend(missing.map(|folder| format!("{map} does not mention {folder}/")));
        }
        found
    }

    fn assert_none(findings: &[String]) {
        assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    }

    #[test]
    fn every_file_opens_by_saying_what_it_is_for() {
        assert_none(&opens_without_module_doc(&files()));
    }

    #[test]
    fn no_file_is_too_long() {
        assert_none(&is_too_long(&files()));
    }

    #[test]
    fn nothing_is_left_unfinished_and_no_test_is_ignored() {
        assert_none(&is_unfinished(&files()));
        assert_none(&ignores_tests(&files()));
    }

    #[test]
    fn pure_code_knows_no_clock_no_chance_and_no_outside() {
        assert_none(&is_impure(&files()));
    }

    #[test]
    fn what_has_one_home_is_named_in_one_file() {
        assert_none(&has_several_homes(&files()));
    }

    #[test]
    fn modules_are_named_after_themselves() {
        assert_none(&is_mod_rs(&files()));
    }

    #[test]
    fn edges_between_crates_point_down_only() {
        assert_none(&has_forbidden_edge(&files()));
        assert_none(&has_features(&files()));
    }

    #[test]
    fn the_lock_file_stays_small_and_holds_nothing_banned() {
        assert_none(&locks_too_much(&files()));
        assert_none(&locks_what_is_banned(&files()));
    }

    #[test]
    fn nothing_depends_on_where_it_was_written() {
        assert_none(&names_a_machine(&files()));
    }

    #[test]
    fn the_maps_show_every_folder() {
        assert_none(&is_not_in_the_map(&files(), &top_folders()));
    }

    fn file(path: &str, text: &str) -> [File; 1] {
        [File::new(path.into(), text.into())]
    }

    #[test]
    fn every_rule_finds_what_it_forbids_and_nothing_else() {
        let long = "x\n".repeat(CODE_LINES_MAX + 1);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}", "x\n".repeat(450), "x\n".repeat(100));
        assert_eq!(opens_without_module_doc(&file("a/src/b.rs", "use x;")).len(), 1);
        assert_eq!(opens_without_module_doc(&file("a/src/b.rs", "//! B.\nuse x;")).len(), 0);
        assert_eq!(is_too_long(&file("a/src/b.rs", &long)).len(), 1);
        assert_eq!(is_too_long(&file("a/src/b.rs", &tested)).len(), 0);
        assert_eq!(is_too_long(&file("a/tests/b.rs", &long.repeat(2))).len(), 1);

        let unwraps = "let x = y.unwrap();";
        assert_eq!(is_unfinished(&file("a/src/b.rs", unwraps)).len(), 1);
        assert_eq!(is_unfinished(&file("a/src/b.rs", "todo!()\n// todo!()")).len(), 1);
        assert_eq!(is_unfinished(&file("a/src/b/tests.rs", unwraps)).len(), 0);
        let in_tests = format!("#[cfg(test)]\nmod tests {{\n{unwraps}");
        assert_eq!(is_unfinished(&file("a/src/b.rs", &in_tests)).len(), 0);
        let [declared] = file("a/src/lib.rs", "#[cfg(test)]\nmod fixture;");
        assert_eq!(declared.test_modules(), ["a/src/fixture"]);
        let [declared] = file("a/src/b.rs", "#[cfg(test)]\npub(crate) mod fixture;");
        assert_eq!(declared.test_modules(), ["a/src/b/fixture"]);
        let ignored = concat!("    #[", "ignore = \"slow\"]");
        assert_eq!(ignores_tests(&file("a/tests/b.rs", ignored)).len(), 1);

        let map = "use std::collections::HashMap;";
        assert_eq!(is_impure(&file("types/src/b.rs", map)).len(), 1);
        assert_eq!(is_impure(&file("sequencer/src/core/b.rs", map)).len(), 1);
        assert_eq!(is_impure(&file("sequencer/src/core.rs", map)).len(), 1);
        assert_eq!(is_impure(&file("sequencer/src/corefile.rs", map)).len(), 0);
        assert_eq!(is_impure(&file("types/src/b.rs", "// SystemTime is banned")).len(), 0);

        for (folder, word) in SINGLE_HOMES {
            let [one] = file(&format!("{folder}/one.rs"), word);
            let [two] = file(&format!("{folder}/two.rs"), word);
            assert_eq!(has_several_homes(&[one, two]).len(), 1, "{word}");
        }
        assert_eq!(is_mod_rs(&file("a/src/b/mod.rs", "")).len(), 1);
        assert_eq!(names_a_machine(&file("a.md", concat!("/ho", "me/me"))).len(), 1);
        assert_eq!(
            locks_too_much(&file("Cargo.lock", &"[[package]]\n".repeat(PACKAGES_MAX + 1))).len(),
            1
        );
        let [lock] = file(
            "Cargo.lock",
            "[[package]]\nname = 'libp2p'\n[[package]]\nname = 'x'\nsource = 'git+https://x'\n[[package]]\nname = 'y'",
        );
        let [deny] = file("deny.toml", "[bans]\ndeny = [{ crate = 'libp2p' }]");
        assert_eq!(locks_what_is_banned(&[lock, deny]).len(), 2);
        assert_eq!(is_not_in_the_map(&file("README.md", "a/"), &["a".into()]).len(), 1);
    }

    #[test]
    fn every_forbidden_edge_is_found() {
        let check = |folder: &str, text: &str| {
            let text = format!("lints.workspace = true\n{text}");
            has_forbidden_edge(&file(&format!("{folder}/Cargo.toml"), &text))
        };
        assert_eq!(check("mempool", "[dependencies]\nfusion-types = '1'"), [""; 0]);
        assert_eq!(
            check("mempool", "[dependencies]\ntokio = '1'"),
            ["mempool imports tokio"]
        );
        assert_eq!(check("client", "[dependencies]\nfusion-mempool = '1'").len(), 1);
        assert_eq!(check("client", "[dev-dependencies]\nfusion-sequencer = '1'").len(), 1);
        assert_eq!(check("client", "[dependencies]\ntokio = '1'"), [""; 0]);
        assert_eq!(check("settlement", "[dev-dependencies]\nfusion-evm = '1'"), [""; 0]);
        assert_eq!(check("settlement", "[dependencies]\nfusion-evm = '1'").len(), 1);
        assert_eq!(check("utils", "").len(), 1);
        let without_lints = file("client/Cargo.toml", "[dependencies]");
        assert_eq!(has_forbidden_edge(&without_lints).len(), 1);
        assert_eq!(has_features(&file("client/Cargo.toml", "[features]")).len(), 1);
    }
}
