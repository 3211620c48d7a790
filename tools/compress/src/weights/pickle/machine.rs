//! The machine itself: opcodes, stack, memo.

use std::collections::HashMap;

use super::{Global, Heap, Value, WeightsError};

/// Most arguments of a call; `_rebuild_tensor_v2` has up to seven.
const MAX_ARGUMENTS: usize = 8;

/// Runs one pickle. Returns its value and the number of bytes that it took.
///
/// # Errors
/// [`WeightsError::Pickle`] with the offset of the opcode, or [`WeightsError::Global`].
pub fn run(bytes: &[u8], heap: &mut Heap) -> Result<(Value, usize), WeightsError> {
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), heap };
    loop {
        let offset = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(value)) => return Ok((value, machine.at)),
            Err(Stop::Global(name)) => return Err(WeightsError::Global { name }),
            Err(Stop::Bad(why)) => return Err(WeightsError::Pickle { offset, why }),
        }
    }
}

/// Why the machine stopped early.
enum Stop {
    Bad(String),
    Global(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Bad(why)
    }
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Self::Bad(why.to_owned())
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    heap: &'a mut Heap,
}

impl Machine<'_> {
    /// One opcode; the result when it was the last.
    fn step(&mut self) -> Result<Option<Value>, Stop> {
        let opcode = self.byte()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            // Protocol number and frame length: nothing to do.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.popped_to_mark()?),
            b'2' => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a | b'G' => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' => self.string(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b')' | b't' | 0x85..=0x87 => self.tuple(opcode)?,
            b']' | b'l' | b'a' | b'e' => self.list(opcode)?,
            b'}' | b'd' | b's' | b'u' => self.dict(opcode)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode)?,
            b'Q' => {
                let id = self.pop()?;
                let storage = self.heap.persistent(id)?;
                self.stack.push(storage);
            }
            b'R' => {
                let arguments = self.pop()?;
                let what = self.pop()?;
                let (Value::Global(what), Value::Tuple(tuple)) = (what, arguments) else {
                    return Err("a call of something else than a known name".into());
                };
                let arguments = &self.heap.tuples[tuple];
                if arguments.len() > MAX_ARGUMENTS {
                    return Err(format!("a call with {} arguments", arguments.len()).into());
                }
                let arguments = arguments.clone();
                let value = self.heap.call(what, &arguments)?;
                self.stack.push(value);
            }
            // BUILD sets attributes, such as `_metadata` of a state dict: they are not needed.
            b'b' => {
                self.pop()?;
                if !matches!(self.stack.last(), Some(Value::Dict(_) | Value::Tensor(_))) {
                    return Err("attributes are set on something else than a dictionary".into());
                }
            }
            other => return Err(format!("opcode {other:#04x} is not one of a state dict").into()),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Stop> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("{count} bytes are wanted past the end"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.take(1)?[0])
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut word = [0; N];
        word.copy_from_slice(self.take(N)?);
        Ok(word)
    }

    fn line(&mut self) -> Result<String, Stop> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or("a line without end")?;
        let text = std::str::from_utf8(self.take(end)?);
        let text = text.map_err(|_| "a name is not UTF-8")?.to_owned();
        self.take(1)?;
        Ok(text)
    }

    fn pop(&mut self) -> Result<Value, Stop> {
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return Err("a value is wanted below a mark".into());
        }
        self.stack.pop().ok_or_else(|| "a value is wanted from an empty stack".into())
    }

    fn popped_to_mark(&mut self) -> Result<Vec<Value>, Stop> {
        let mark = self.marks.pop().ok_or("there is no mark on the stack")?;
        Ok(self.stack.split_off(mark))
    }

    fn number(&mut self, opcode: u8) -> Result<(), Stop> {
        let value = match opcode {
            b'J' => Value::Int(i32::from_le_bytes(self.word()?).into()),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.word()?).into()),
            b'G' => Value::Float(f64::from_be_bytes(self.word()?)),
            _ => {
                let length = self.byte()?.into();
                let bytes = self.take(length)?;
                if bytes.len() > 16 {
                    return Err("an integer of more than 16 bytes".into());
                }
                let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
                let mut word = [if negative { 0xff } else { 0 }; 16];
                word[..bytes.len()].copy_from_slice(bytes);
                Value::Int(i128::from_le_bytes(word))
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn string(&mut self, opcode: u8) -> Result<(), Stop> {
        let length = match opcode {
            b'X' => u64::from(u32::from_le_bytes(self.word()?)),
            0x8d => u64::from_le_bytes(self.word()?),
            b'T' => u64::try_from(i32::from_le_bytes(self.word()?))
                .map_err(|_| "a string of negative length")?,
            _ => u64::from(self.byte()?),
        };
        let length = usize::try_from(length).map_err(|_| "a string is too long")?;
        let text = std::str::from_utf8(self.take(length)?);
        let text = text.map_err(|_| "a string is not UTF-8")?.to_owned();
        self.push_string(text);
        Ok(())
    }

    fn push_string(&mut self, text: String) {
        self.heap.strings.push(text);
        self.stack.push(Value::Str(self.heap.strings.len() - 1));
    }

    fn global(&mut self, opcode: u8) -> Result<(), Stop> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let text = |value| self.heap.text(value).map(str::to_owned);
            match (text(module), text(name)) {
                (Some(module), Some(name)) => (module, name),
                _ => return Err("a name is no string".into()),
            }
        };
        let global = Global::find(&module, &name);
        let global = global.ok_or_else(|| Stop::Global(format!("{module}.{name}")))?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), Stop> {
        let values = match opcode {
            b')' => Vec::new(),
            b't' => self.popped_to_mark()?,
            _ => {
                let count = usize::from(opcode - 0x84);
                let mut values = Vec::with_capacity(count);
                for _ in 0..count {
                    values.push(self.pop()?);
                }
                values.reverse();
                values
            }
        };
        self.heap.tuples.push(values);
        self.stack.push(Value::Tuple(self.heap.tuples.len() - 1));
        Ok(())
    }

    fn list(&mut self, opcode: u8) -> Result<(), Stop> {
        let values = match opcode {
            b']' => Vec::new(),
            b'a' => vec![self.pop()?],
            _ => self.popped_to_mark()?,
        };
        if matches!(opcode, b']' | b'l') {
            self.heap.lists.push(values);
            self.stack.push(Value::List(self.heap.lists.len() - 1));
            return Ok(());
        }
        match self.stack.last() {
            Some(&Value::List(list)) => self.heap.lists[list].extend(values),
            _ => return Err("values are appended to something else than a list".into()),
        }
        Ok(())
    }

    fn dict(&mut self, opcode: u8) -> Result<(), Stop> {
        let values = match opcode {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.popped_to_mark()?,
        };
        let (pairs, odd) = values.as_chunks::<2>();
        if !odd.is_empty() {
            return Err("a dictionary's key without a value".into());
        }
        let entries = pairs.iter().map(|&[key, value]| (key, value));
        if matches!(opcode, b'}' | b'd') {
            self.heap.dicts.push(entries.collect());
            self.stack.push(Value::Dict(self.heap.dicts.len() - 1));
            return Ok(());
        }
        match self.stack.last() {
            Some(&Value::Dict(dict)) => self.heap.dicts[dict].extend(entries),
            _ => return Err("entries are set in something else than a dictionary".into()),
        }
        Ok(())
    }

    fn memo(&mut self, opcode: u8) -> Result<(), Stop> {
        let index = match opcode {
            b'q' | b'h' => self.byte()?.into(),
            0x94 => self.memo.len() as u32,
            _ => u32::from_le_bytes(self.word()?),
        };
        if matches!(opcode, b'h' | b'j') {
            let value = self.memo.get(&index);
            let value = *value.ok_or_else(|| format!("nothing is remembered as {index}"))?;
            self.stack.push(value);
        } else {
            let top = *self.stack.last().ok_or("nothing on the stack to remember")?;
            self.memo.insert(index, top);
        }
        Ok(())
    }
}
