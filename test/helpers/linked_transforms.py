"""Transforms in HDF5 whose parameters lie in other files, as h5py writes them into one of ITK's files.

Each is the affine transform of `TransformGroup/0`; ITK reads it without a word if the other file is there.
"""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

KINDS = ("external-link", "external-data", "virtual")
OTHER_FILE = "other.h5"
OTHER_DATA = "raw.bin"

# zlib, then base 85: 8 kB of HDF5 each.
_CONTENT = {
    "external-link": (
        "c-rgqaB<`1lHy|G;9!7(|4@*j0O1=z#lxq!-}m=$31U)MIGZaQ8CNg~A!~#IE+z&>1_m}!1|Y@d8R8w5T2!2wpLZB)9#jJ80;t"
        "4&Mu>!f00YA_RtVdQ0U>4#6;psaRb_MXTCkH8(VfJ=$SA_Vz{CgyP_;0cS%iU6637u?fMAF?2Lmh6waiQ$K%X!(GC)H^0A|q!h"
        "9L*^1JA#sMc4>P4E?bAcU6dm7Ga|>48n#rpogCpVPh~1!e-U=Ngw>3J-pdOKz`)(4~CXp;w%t(lO-vQ<P?!SAmbPf6xg8lcu>#"
        "DbyIFKgPkl0vV+Y(*e@|R^*0l=2$lp1@`V&7<`t*q7v;Ja<(C!&LyOsOfpvGu@r(q>OkTK|A(aKGo1q?KQwGUNz~$UBD^gPe5{"
        "rONDglOMfCQqj&yj?%Lm80Lnlr1*6k4QBhhdO5|8`8$1V^+S$dAJCFh&F~EJ%x0)2F~PJIK=<hyZhU_V-~#3JFFebs%7>XQF2T"
        "q@n4DK?as!UEE9+ax#;O5{oJo${?A-O2JUi&`8e^90_RV_+;jlRsd;ezG2{p(q?*w7J4Qox@pO}Wu}&<aP?A9+A%FHGcOhHxA>"
        "I&(xjZ!c;k3u)WC4yXBY*eU=)mkQ7{Td!6+C7qhJ(_f>AIEMga~WgESt%gf>3F4DF}G_$<(VIgAfdOK5NgHVy!%MHm<b73`to?"
        "G6kk+zclFfs)|C87|1+On?GJtpv=GLvV0r>a-#^@ZgLm0|O(61Gdo_0|titl8n?My$n+Zebf;-eFJ?g8W<ibe(8dSO~Mcko1}e"
        "tHKRFi6pVsVFbakz006&+9l-"
    ),
    "external-data": (
        "c-rgqaB<`1lHy|G;9!7(|4^_(0m3(cimyppdC=d(C5TC3;cTvKWL&`{gsc$;xR@9i85r0^8Gsa*XNY%LYEf}!e%@iIc~A+U3!o"
        "DB86gq^0t^h#SRrgH285U~R7?TxRF%!iYr#%ZM0XMcBclid0}~?<K-I!%W)TKPNgzjn0fHgo91N^L*D^D40DZ#D$N&uu0hmP_7"
        "=|3s4?O>l7GWbGG4#Xc-&G+NT7-?lFbEsgfF6EYgpI*42%A;cCw=gD_V8vC0r`>BKNwnaiL*fDO_roIl2b(TfQ(}_P+)`F<3T+"
        "q*G;*}40f_0$PPCDV86uN)Za|dB3Ke6$QM$Sm{**ZUzF=!lwVp93@v8A1=igq$1@TjGkM`=hEx`$Ziae{O&KI70he>jtVm4>NG"
        "t+6sRS630TPJ9{yaN`t;K+p*7Q%;snQ~CIt+uf`L|<|COD$yKz<a4hcO~}b0i@ui&fL7z%o0?(;SEZb9eUlVMGcEMkIA0V5(=L"
        "X91+4>4!lEmSA1nOcio6lZq0HDiz8gnZioJP|wgv&k!65Xy*82=9N|eX=uJ-;D^#?dWIHyCMLRR$+~5xmZos^Qc&74EiE%I74E"
        "nAl>E}9oYZ*Zcw^MSaNuVc1*2dTjDk@x3P!;w7zLwX6pVsVFbYNi4j_Xx9>9b)KEMp^r^EOx(0)0L4^m5La0WIG0H;M57zGvVq"
        "2uii3?|$RCjWtw;K3O#$ly$X0z|C@%#lNIaAxYXA~!|`HpqAibWnv6>Lb{Y6%SM`4?K({z)G=&4<x)f!17E?Oke}p88pCr2xer"
        "+fQB0fnp+YWVB!$_nHgaNcnN4KBj^$~N&E6@MswaM7zLwX6bw(`;p!LwqM=n1e4?d80aaa5V!2*YW*&Ur0j3TBr7;mt"
    ),
    "virtual": (
        "c-rlmO=uHA6vyA}rg2SMlg5ZiDYBwHD0Gw9L~1WaTGB|1Nk8ytN!yJHZIiP7AVmp!Q}7_AdhsN95(J@lFP_9hPa+<~gW$n~c=9"
        "5)?(V$VY)gw!8nEI0V40nHZ)e{8cXmkLJj@KH+kKrrNl`$sjTB?Njs@KLdMlXC430_a^Jl(U_f?gG?gs@v2^fI)6qtqY`o!=}-"
        "B>JD%5SkhG?)>f;S1x2Kmg!d3%~D&dRs5HsZOZpH>O|NA)VbF5-=75keCVjic$^%i<p%F@Qb%A&|*d_ONu!YnE|R15Cgr2BS&;"
        "}^G74J351WnHd`Npo<?Y+Hi0%Rxkvs+XcKD!ZC-v{`<Wfc40}V?9FJ$mapyYi;r7IfnfnLXBHOI)SWNZeIGMu>xwigEwnOf)#_"
        "(pxZ{+9o-x6-Y5v%dUgpn^V7AnU4kWpD)7{_h)*J$nYK_(Nn`fPXloLF7ZH*jL!bCxaa*wUq{K9kEEW=Kn>lDTkwv)??%?=OOD"
        "twrD0x*M@JQ%$fo|2$Z`V87@y)*Med8rS8Wi*V1y?%V6)W49)))CC(F$c`|V63pdik<=1epIPGifiAIN2h&M)t~6!jja7Ape-!"
        ";{T#H}Q;`U3})z3(&yj(R){BFRH<z+42rzH|Sh3TG^<dvl3--+e5LZMXFow-fURF<da^vT}I-koBk{6G){K@bE%5ClOG#6EPn@"
        "&VGW{D6%A(?#8b|I0<)^8HtGM&tpUG6bwcy^8tv6eL<9v27ad<cyCeXL2g{4T~U;U~=ZkQzOm5%kwFiRAD$Hk+Nz--!@01u<g2"
        "+K3s3bwo9^Pcc5U>#v>P1F@i-9pSEiD+kkujl{Qmv%6I9@BM5?MPWC%jm=zA9p|Vue4Xv1joo7<fSagpA4f|&Va}6W8>f)?N)L"
        "YH#-S@4>JK|cPa{_`O2!bF8f*=TjI5hqO3lkew"
    ),
}


def linked_transform(folder: Path, kind: str) -> Path:
    """Write a transform of one of the `KINDS` with the files from which it takes its parameters.

    Returns:
        The transform, in the folder.
    """
    moved = sitk.AffineTransform(3)
    moved.SetTranslation((7.0, 8.0, 9.0))
    sitk.WriteTransform(moved, str(folder / OTHER_FILE))
    np.asarray(moved.GetParameters(), np.float64).tofile(folder / OTHER_DATA)
    path = folder / f"{kind}.h5"
    path.write_bytes(zlib.decompress(base64.b85decode(_CONTENT[kind])))
    return path
