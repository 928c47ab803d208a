//! Reading `settings.toml`, and writing it with its defaults.

use std::fs;
use std::io;

use weal_files::Access;

use super::Settings;
use crate::documented::{help_of, to_commented_toml};
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;

const HEAD: &str = "How this machine takes part in a run. Nothing here affects other peers: change \
    it and restart the node. Flags and WEAL_... environment variables override this file.";

impl Settings {
    /// Reads a folder's settings; writes these defaults if the folder has none.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds an unknown key or value.
    pub fn load_or_write(folder: &Folder, defaults: &Self) -> Result<Self> {
        let path = folder.settings();
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                Error::configuration(path.display(), error.to_string().trim())
                    .with_hint("fix the file, or delete it to get the defaults back")
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                defaults.write(folder)?;
                Ok(defaults.clone())
            }
            Err(error) => Err(Error::storage("cannot read the settings", &path)(error)),
        }
    }

    /// Reads a folder's settings without writing anything; defaults if the folder has none.
    ///
    /// # Errors
    /// When the file cannot be read, or holds an unknown key or value.
    pub fn read(folder: &Folder) -> Result<Self> {
        if folder.settings().exists() {
            Self::load_or_write(folder, &Self::default())
        } else {
            Ok(Self::default())
        }
    }

    /// Writes a folder's `settings.toml`, with a comment above every key.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, folder: &Folder) -> Result<()> {
        let text = self.to_commented_toml()?;
        Ok(weal_files::write(
            &folder.settings(),
            Access::Owner,
            text.as_bytes(),
        )?)
    }

    fn to_commented_toml(&self) -> Result<String> {
        to_commented_toml(HEAD, self).map_err(|error| Error::of(ErrorKind::Internal, error))
    }
}

/// Help of the flag that overrides a setting: the setting's doc, and its key.
pub(crate) fn flag_help(key: &str) -> String {
    format!("{} [settings: {key}]", help_of::<Settings>(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Device;

    #[test]
    fn the_written_file_reads_back_and_explains_every_key() {
        let text = Settings::default().to_commented_toml().unwrap();
        assert_eq!(
            toml::from_str::<Settings>(&text).unwrap(),
            Settings::default()
        );
        let lines: Vec<_> = text.lines().collect();
        for (line, above) in lines.iter().skip(1).zip(&lines) {
            let is_key = line.starts_with('[') || line.contains(" = ") && !line.starts_with('#');
            assert!(
                !is_key || above.starts_with("# "),
                "no comment above {line}:\n{text}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        fs::write(folder.settings(), "[compute]\nthreds = 3\n").unwrap();
        let error = Settings::load_or_write(&folder, &Settings::default()).unwrap_err();
        assert_eq!(error.code(), 3);
        assert!(error.to_string().contains("threds"), "{error}");
    }

    #[test]
    fn a_device_is_named_as_on_the_command_line() {
        let settings = |device: &str| {
            toml::from_str::<Settings>(&format!("[compute]\ndevice = \"{device}\"\n"))
        };
        for (name, device) in [
            ("cpu", Device::Cpu),
            ("gpu", Device::Gpu),
            ("gpu:3", Device::GpuNumber(3)),
        ] {
            let read = settings(name).unwrap();
            assert_eq!(read.compute.device, device);
            assert!(
                read.to_commented_toml()
                    .unwrap()
                    .contains(&format!("device = \"{name}\""))
            );
        }
        assert!(
            settings("gpu:x")
                .unwrap_err()
                .to_string()
                .contains("gpu:<number>")
        );
    }
}
