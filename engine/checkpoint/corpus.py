"""Sentences the sample tokenizer is trained on: what prompts for talking avatars are made of."""

from __future__ import annotations

from typing import Final

ENGLISH: Final = """
A young woman with short black hair looks into the camera and speaks calmly in a quiet studio.
An elderly man in a grey suit reads the evening news at a wooden desk, warm light from the left.
A teacher stands before a green board, smiles, and explains the lesson with small hand movements.
The singer closes her eyes, sways with the music, and sings softly under a blue stage light.
A cartoon fox with orange fur and a red scarf tells a short story beside a camp fire at night.
Close-up portrait, shallow depth of field, natural skin, soft shadows, realistic style, high detail.
A friendly assistant in a white shirt welcomes the viewers and introduces the product of the day.
The presenter turns the head slightly, raises the eyebrows and laughs, then goes on speaking.
A painted portrait in oil comes to life: the lips follow the words, the background stays still.
A man with a beard and round glasses talks about science in front of a shelf full of books.
Two people sit at a table with microphones and record a podcast; one listens while the other talks.
A little girl with a yellow raincoat counts from one to ten and waves good bye at the end.
The camera is fixed, the upper body is visible, the hands rest, the expression is lively and warm.
A chef in a bright kitchen describes how the bread is made, steam rises from the oven behind him.
An astronaut floats in a space station, the earth in the window, and answers a question slowly.
A news anchor with a serious expression reports on the weather, rain and wind over the coast.
Anime style, large eyes, pastel colours, clean lines, the character speaks with energy and joy.
A doctor in a white coat explains the results in a calm voice; a plant stands near the window.
Black and white film, grain, high contrast, a detective speaks with a low voice in a dark street.
The old sailor remembers the sea, his face lit by a lamp, wrinkles, wool cap, slow gestures.
A robot with a smooth metal face moves its mouth exactly with the speech, studio background.
A young man in a hooded jacket raps to the camera in front of a colourful wall, city, daylight.
She whispers a secret, leans forward, and then smiles; candle light, evening, soft focus.
A guide in the museum speaks about a marble statue, visitors walk past in the blurred distance.
The portrait keeps its identity, its clothes and its background from the first frame to the last.
"""

CHINESE: Final = """
一位年轻女子留着黑色短发，看着镜头，在安静的演播室里平静地说话。
一位穿灰色西装的老人坐在宽大的木桌前播报晚间新闻，左侧有温暖的灯光。
老师站在绿色的黑板前微笑着讲解课程，手部有轻微的动作。
歌手闭上眼睛，随着音乐轻轻摇摆，在蓝色的舞台灯光下轻声歌唱。
一只橙色皮毛、围着红围巾的卡通狐狸，夜里在篝火旁讲一个短故事。
近景肖像，浅景深，自然的皮肤，柔和的阴影，写实风格，细节丰富。
穿白衬衫的助手热情地欢迎观众，并介绍今天的产品。
主持人微微转头，扬起眉毛笑了笑，然后继续说话。
一幅油画肖像活了过来：嘴唇跟随话语，背景保持不动。
留着胡子、戴圆框眼镜的男人在书架前谈论科学。
两个人坐在桌旁对着麦克风录制播客，一个人说话，另一个人倾听。
穿黄色雨衣的小女孩从一数到十，最后挥手说再见。
镜头固定，上半身可见，双手放松，表情生动而温暖。
厨师在明亮的厨房里讲述面包的做法，身后的烤箱冒着热气。
宇航员漂浮在空间站里，窗外是地球，慢慢地回答问题。
新闻主播表情严肃，报道沿海地区的天气和风雨。
动漫风格，大眼睛，柔和的色彩，干净的线条，角色说话充满活力和喜悦。
医生穿着白大褂，用平静的声音解释结果，窗边有一盆植物。
黑白电影，颗粒感，高对比度，侦探在黑暗的街道上低声说话。
老水手回忆大海，灯光照亮他的脸，皱纹，毛线帽，缓慢的手势。
"""


def sentences() -> list[str]:
    """All lines, in a fixed order."""
    return [line for text in (ENGLISH, CHINESE) for line in text.strip().splitlines()]
